"""Checkpoint -> bundle: reads what learning wrote and hands it to deployment, which knows nothing of learning."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sealegs.support_fitting import SupportOptions, support_model
from sealegs_contract.errors import BundleError

if TYPE_CHECKING:
    from sealegs_deploy.comparison import Statistics
    from sealegs_deploy.export import ExportRequest
    from sealegs_deploy.manifest import Manifest, Metric
    from sealegs_deploy.scoring_export import Scorer
    from sealegs_learning.learners.settings import FQESettings


@dataclass(frozen=True)
class BestOfNOptions:
    """A scorer for candidate actions (reward.onnx), learned from a dataset and its learned reward."""

    dataset: Path | None = None
    """Dataset folder with the reward; without it the bundle has no scorer."""
    reward: str = ""
    """Learned reward of that dataset, or `true`; by default the one that the policy was trained with."""
    spread: float = 0.25
    """Deviation of the candidates as a share of the policy's own."""
    updates: int = 4_000
    """Gradient updates of the critics: a minute or two."""
    seed: int = 0
    """Seeds the critics."""


def export_checkpoint(
    checkpoint: Path,
    out: Path,
    key: Path | None = None,
    name: str = "",
    overwrite: bool = False,
    best_of_n: BestOfNOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
    support: SupportOptions | None = None,
) -> Manifest:
    """Write the signed bundle of a checkpoint to `out` (a folder, or a file ending in .zip); its manifest.

    Raises LearningError when the checkpoint cannot be read, also where the one before it could: a signature goes to no
    other weights than were named. BundleError when the export cannot be trusted or written.
    """
    import torch

    from sealegs_deploy.export import export_bundle
    from sealegs_deploy.scoring_export import with_scorer
    from sealegs_deploy.signing import own_key
    from sealegs_deploy.support_export import with_support
    from sealegs_learning.training.card import read_card_files
    from sealegs_learning.training.checkpoint import find_checkpoint, load_policy

    torch.set_num_threads(1)
    folder = find_checkpoint(checkpoint, previous=False)
    policy = load_policy(folder)
    request = request_of(policy, folder, name)
    statistics = training_statistics(policy)
    files = read_card_files(folder)
    if best_of_n is not None and best_of_n.dataset is not None:
        own_reward = str(policy.provenance.get("reward", {}).get("name", ""))
        scorer = make_scorer(policy, best_of_n.dataset, best_of_n, own_reward, progress)
        request, scoring = with_scorer(request, scorer, statistics)
        files = {**files, **scoring}
    if support is not None:
        request, watching = with_support(request, support_model(policy, support), statistics)
        files = {**files, **watching}
    return export_bundle(policy, request, out, own_key(key), statistics, overwrite, files)


def training_statistics(policy: Any) -> Statistics:
    """Mean and deviation by which a policy normalised as it learned, as its training wrote them down.

    Checkpoints of earlier releases did not: what the policy normalises by now stands in.
    """
    said = policy.provenance.get("input_statistics")
    if said is None:
        return policy.normalizer.mean.numpy(), policy.normalizer.std.numpy()
    return np.asarray(said["mean"], dtype=np.float32), np.asarray(said["std"], dtype=np.float32)


def request_of(policy: Any, folder: Path, name: str = "") -> ExportRequest:
    """What the manifest says of the policy of the checkpoint in `folder`."""
    from sealegs_deploy.export import ExportRequest
    from sealegs_deploy.manifest import Provenance

    about, task = policy.provenance, policy.task
    training = dict(about.get("config", {}))
    reward = about.get("reward", {})
    return ExportRequest(
        name=name or default_name(str(training.get("learner", "policy")), task),
        robot=policy.robot,
        observation=policy.observation_spec,
        action=policy.action_spec,
        temporal=policy.temporal,
        provenance=Provenance(
            task=task,
            task_text=task_text(task),
            learner=str(training.get("learner", "")),
            run_path=str(folder),
            dataset_fingerprint=str(about.get("dataset_fingerprint", "")),
            reward_fingerprint=str(reward.get("parquet_sha256", reward.get("name", ""))),
            training=training | {"reward_details": reward, "updates": about.get("update")},
        ),
        metrics=tuple(metrics_of(policy.metrics)),
    )


def make_scorer(
    policy: Any,
    dataset: Path,
    options: BestOfNOptions,
    own_reward: str,
    progress: Callable[[int, int], None] | None = None,
) -> Scorer:
    """Critics of the policy under the members of a learned reward. LearningError where they cannot be learned."""
    from dataclasses import replace

    from sealegs_learning.data.dataset import Dataset
    from sealegs_learning.reward.scorer import SETTINGS

    data = Dataset.open(dataset)
    settings = replace(SETTINGS, updates=options.updates)
    return scorer_of(policy, data, options.reward or own_reward, settings, options.spread, options.seed, progress)


def scorer_of(
    policy: Any,
    data: Any,
    reward: str,
    settings: FQESettings,
    spread: float,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Scorer:
    """As `make_scorer`, from a dataset in memory whose rewards lie beside it."""
    from sealegs_deploy.scoring_export import Scorer
    from sealegs_learning.reward.scorer import ScorerInRad, candidate_std, fit_scorer, member_rewards
    from sealegs_learning.reward.sidecar import describe_reward

    std = tuple(candidate_std(policy, spread).tolist())
    scorer = fit_scorer(policy, data, member_rewards(data, reward), settings, spread, seed, progress)
    fingerprint = str(describe_reward(data, reward).get("parquet_sha256", ""))
    return Scorer(ScorerInRad(scorer, policy.action_spec).eval(), scorer.members, std, reward, fingerprint)


def default_name(learner: str, task: str) -> str:
    """`drawer-iql`, reduced to what a bundle's name may hold."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{task}-{learner}" if task else learner).strip("-.")[:64] or "policy"


def task_text(task: str) -> str:
    """The sentence of a simulated task; empty for tasks that only the dataset knows."""
    from sealegs_sim.tasks import TASKS

    return TASKS[task].text if task in TASKS else ""


def metrics_of(metrics: Mapping[str, Any]) -> list[Metric]:
    """The figures of a recorded evaluation, with their 95% intervals; none where none was recorded."""
    from sealegs_deploy.manifest import Metric

    evaluation = metrics.get("evaluation")
    if not evaluation:
        return []
    try:
        episodes, note = int(evaluation["episodes"]), f"in simulation, seeds from {evaluation['seed']}"
        pairs = {"success_rate": "success_interval", "mean_final_progress": "final_progress_interval"}
        return [
            Metric(name=name, value=evaluation[name], interval=tuple(evaluation[bounds]), episodes=episodes, note=note)
            for name, bounds in pairs.items()
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"the checkpoint's evaluation cannot be read: {type(error).__name__}: {error}") from error
