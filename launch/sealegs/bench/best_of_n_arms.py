"""The policies, scorers and episodes of bench `best-of-n`: what acts is the exported bundle in onnxruntime."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from sealegs.bench.frame import Cell, Progress
from sealegs.exporting import scorer_of
from sealegs_deploy.bundle import VerifiedBundle, load_bundle
from sealegs_deploy.export import ExportRequest, export_bundle
from sealegs_deploy.runtime import PolicyRuntime
from sealegs_deploy.scoring import Pick, best_of_n, gains, pick_minimum
from sealegs_deploy.scoring_export import with_scorer
from sealegs_deploy.signing import SigningKey
from sealegs_learning.evaluation.rollouts import RolloutDataset, roll_out
from sealegs_learning.judge.base import Frame
from sealegs_learning.judge.labels import Labels
from sealegs_learning.judge.oracle import OracleJudge, find_curve
from sealegs_learning.judge.pairs import Span, draw_pairs
from sealegs_learning.learners.settings import FQESettings
from sealegs_learning.networks import Policy
from sealegs_learning.reward.builtin import true_progress
from sealegs_learning.reward.learn import learn_reward
from sealegs_learning.reward.scorer import SETTINGS, SPREAD
from sealegs_learning.sessions.offline import offline_session
from sealegs_learning.training.config import RewardConfig, TrainConfig
from sealegs_sim.tasks import get_task
from sealegs_sim.vector import BatchEnv

Scores = NDArray[np.float32]
Merit = Callable[[Scores], NDArray]
"""What a chooser thinks of each candidate, (N,), from the members' gains (N, K)."""
Act = Callable[[NDArray[np.float32]], NDArray[np.float64]]

LEARNED, MEAN, MEMBER = "learned reward, minimum", "learned reward, mean", "learned reward, one member"
TRUE, NEXT, RANDOM = "true reward, minimum", "reward of the next step, minimum", "random choice"
ARMS = {LEARNED: "learned", MEAN: "learned", MEMBER: "learned", TRUE: "true", NEXT: "next", RANDOM: "learned"}
"""Each arm, and whose bundle it uses."""
SCORERS: Mapping[str, tuple[str, float]] = {"learned": ("judged", SETTINGS.gamma), "true": ("true", SETTINGS.gamma),
                                            "next": ("judged", 0.0)}  # fmt: skip
"""Reward and discount of each bundle's critics."""
SEED_OF_STARTS = 50_000
ERRORS = "vlm_drawer"
"""How often the judge of the labels is wrong: as RL-VLM-F measured it on a drawer."""


def make_start(cell: Cell, folder: Path, progress: Progress) -> dict[str, Any]:
    """Logs of unequal operators, an early clone of them, a judged reward, and a bundle for each scorer."""
    c = cell.settings
    data = replace(roll_out(cell.task, "mixed", int(c["episodes"]), seed=100_000 * cell.seed), path=folder)
    config = TrainConfig(folder / "bc", learner="bc", updates=int(c["updates"]), seed=cell.seed)
    session = offline_session(config, data)
    session.advance(config.updates)
    policy: Any = session.policy.eval().requires_grad_(False)
    labels = judged(data, int(c["pairs"]), cell.seed)
    reward = RewardConfig(Path("unused"), "judged", "judged", members=int(c["members"]), seed=cell.seed)
    report = learn_reward(reward, dataset=data, labels=labels)
    key = SigningKey(Ed25519PrivateKey.generate(), folder / "never-written.pem")
    differences = {}
    for number, (name, (rewarded, gamma)) in enumerate(SCORERS.items()):
        settings = replace(SETTINGS, updates=int(c["critic_updates"]), members=int(c["members"]), gamma=gamma)
        differences[name] = export(policy, data, rewarded, settings, cell.seed, folder / f"{name}.zip", key)
        progress(number + 1, len(SCORERS))
    return {
        "key": key.public_key,
        "log_success": data.success_rate,
        "label_accuracy": report.fit.held_out_accuracy,
        "order": report.order or {},
        "differences": differences,
    }


def judged(data: RolloutDataset, number: int, seed: int) -> Labels:
    """Labels of `number` pairs, half of them within an episode, by a judge that errs as RL-VLM-F's did."""
    text = get_task(data.episodes[0].task).text
    spans = [Span(e.start, e.length, text) for e in data.episodes]
    rows = draw_pairs(spans, number, 0.5, np.random.default_rng(seed))[text]
    judge = OracleJudge(true_progress(data).astype(np.float64), (text,), find_curve(ERRORS), seed)
    pairs = [(Frame(b"", int(a)), Frame(b"", int(b))) for a, b in rows]
    answers = [answer for _, answer in judge.compare_many(text, pairs)]
    return Labels(
        rows[:, 0],
        rows[:, 1],
        np.array([answer.probability_b_better for answer in answers]),
        np.array([answer.abstain for answer in answers]),
        np.array([answer.status for answer in answers]),
    )


def export(
    policy: Policy, data: RolloutDataset, reward: str, settings: FQESettings, seed: int, out: Path, key: SigningKey
) -> dict[str, float]:
    """A signed bundle of the policy with a scorer; how far onnxruntime is from torch, policy and scorer."""
    request = ExportRequest(
        name="bench-best-of-n",
        robot=policy.robot,
        observation=policy.observation_spec,
        action=policy.action_spec,
        temporal=policy.temporal,
    )
    statistics = (policy.normalizer.mean.numpy(), policy.normalizer.std.numpy())
    scorer = scorer_of(policy, data, reward, settings, SPREAD, seed)
    request, files = with_scorer(request, scorer, statistics)
    manifest = export_bundle(policy, request, out, key, statistics, overwrite=True, files=files)
    best = manifest.best_of_n
    relative = best.max_relative_difference if best else float("nan")
    return {"policy_rad": manifest.parity.max_abs_difference_rad, "scorer_relative": relative}


def open_bundle(folder: Path, scorer: str, public_key: str) -> VerifiedBundle:
    """What `make_start` exported."""
    return load_bundle(folder / f"{scorer}.zip", trusted_public_keys=(public_key,))


class Chooser:
    """Chooses by an arm's rule and keeps what the rule thought of its choice."""

    def __init__(self, arm: str, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._rule: dict[str, Merit] = {
            MEAN: lambda g: g.mean(axis=1),
            MEMBER: lambda g: g[:, 0],
            RANDOM: lambda g: rng.random(len(g)),
        }
        self._arm = arm
        self.believed: list[float] = []
        self.taken = 0

    def __call__(self, scores: Scores) -> int:
        """Index of the choice among scores (N, K)."""
        gained = gains(scores)
        agreed = gained.min(axis=1)
        merit = self._rule[self._arm](gained) if self._arm in self._rule else agreed
        chosen = int(merit.argmax()) if self._arm in self._rule else pick_minimum(scores)
        self.believed.append(float(agreed[chosen] if self._arm == RANDOM else merit[chosen]))
        self.taken += int(chosen > 0)
        return chosen


def episodes(bundle: VerifiedBundle, task: str, arm: str, candidates: int, starts: int, seed: int) -> dict[str, Any]:
    """Outcomes by episode of the best of `candidates`, from the same starts for all; 1 is the policy alone.

    `believed`: by how much the rule thought its choices better than the policy's own, in deviations, mean of all steps.
    """
    chooser, runtime = Chooser(arm, seed), PolicyRuntime(bundle)
    pick: Pick = chooser
    act: Act = runtime.infer if candidates == 1 else best_of_n(bundle, runtime, candidates, pick=pick).infer
    action = bundle.manifest.action
    env = BatchEnv(task, num_envs=starts)
    try:
        observation, info = env.reset(seed=SEED_OF_STARTS + 1000 * seed)
        returns = np.zeros(starts)
        for _ in range(env.horizon_steps):
            outputs = np.stack([act(np.ascontiguousarray(row, np.float32)) for row in observation])
            observation, reward, _, _, info = env.step(action.to_action(outputs))
            returns += reward
    finally:
        env.close()
    return {
        "success": np.asarray(info["success"]).astype(float).tolist(),
        "final_progress": np.asarray(info["progress"]).tolist(),
        "return": returns.tolist(),
        "believed": float(np.mean(chooser.believed)) if chooser.believed else 0.0,
        "taken": chooser.taken / max(len(chooser.believed), 1),
    }


def latencies(bundle: VerifiedBundle, sizes: tuple[int, ...], calls: int, rounds: int) -> dict[str, Any]:
    """p50, p99 and the largest time of one inference in ms, by number of candidates; they take turns."""
    runtime = PolicyRuntime(bundle)
    acts: dict[int, Act] = {n: runtime.infer if n == 1 else best_of_n(bundle, runtime, n).infer for n in sizes}
    observations = np.random.default_rng(0).standard_normal((calls, bundle.manifest.observation.size))
    took: dict[int, list[int]] = {n: [] for n in sizes}
    gc.collect()
    gc.freeze()  # as the policy node does
    for _ in range(rounds):
        for n, act in acts.items():
            for row in observations.astype(np.float32):
                began = time.perf_counter_ns()
                act(row)
                took[n].append(time.perf_counter_ns() - began)
    gc.unfreeze()
    found = {n: np.array(values) / 1e6 for n, values in took.items()}
    return {
        str(n): {"p50": float(np.median(v)), "p99": float(np.percentile(v, 99)), "max": float(v.max())}
        for n, v in found.items()
    }
