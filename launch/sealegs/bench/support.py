"""Bench `support`: what the support guard notices, how soon, and how often it stops a robot for nothing.

Stage 0, a cell a task and seed: logs, a policy that learned from them, and its runs on a robot that is as it was, has
other dynamics, finds objects elsewhere, or has a sensor at fault. Stage 1, a cell a detector: fitted on the logs,
calibrated at one false-alarm rate on held-out logs and on own runs, as export does; scored on those runs, none of which
it has seen. Stage 2, the shipped detector calibrated on one of the two alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sealegs.bench.frame import Bench, Cell, CellContext
from sealegs.bench.options import BenchOptions
from sealegs.bench.support_cases import CLEAN, Case, cases, run_case
from sealegs.bench.support_claims import DETECTORS, GUARD, LOGS, OWN, RANDOM, RATE, summarise

RUNS, MODEL = "runs", "model.pt"
LEARNERS = {"reach": ("bc", "noisy"), "push": ("bc", "noisy"), "drawer": ("iql", "mixed")}
"""By task: who learns, and from whose logs."""
LOG_SEED, OWN_SEED, CLEAN_SEED = 1_000_000, 2_000_000, 3_000_000
"""First seeds of logs, of the policy's own runs for calibration, and of what is measured; 1,000 a bench seed."""


def cells_of(options: BenchOptions) -> list[Cell]:
    """Runs of every task and seed, then every detector on them."""
    quick = options.quick
    logs = {"logs": 80 if quick else 500, "updates": 1_500 if quick else 4_000}
    runs = logs | {"clean": 60 if quick else 200, "own": 60 if quick else 200, "shifted": 20 if quick else 50}
    fit = runs | {"fit_updates": 500 if quick else 2_000, "rate": RATE, "calibration": "logs and own runs"}
    found = []
    for task in options.tasks_or(tuple(LEARNERS), ("reach", "push")):
        for seed in options.seeds_or((0, 1, 2, 3, 4), (0, 1)):
            found.append(Cell(RUNS, task, seed, runs))
            found += [Cell(arm, task, seed, fit, stage=2 if arm in (LOGS, OWN) else 1) for arm in DETECTORS]
    return found


def run_cell(cell: Cell, context: CellContext) -> dict[str, Any]:
    """Success by case, or what one detector made of the same runs."""
    import torch

    torch.set_num_threads(1)
    return record(cell, context) if cell.arm == RUNS else detect(cell, context)


def record(cell: Cell, context: CellContext) -> dict[str, Any]:
    """Logs, a policy, and its runs in every case; observations go into the cell's folder."""
    from sealegs_learning.evaluation.rollouts import roll_out
    from sealegs_learning.train import train
    from sealegs_learning.training.checkpoint import load_policy
    from sealegs_learning.training.config import TrainConfig

    learner, operator = LEARNERS[cell.task]
    settings, found = cell.settings, cases(cell.task)
    context.progress(0, len(found) + 2)
    data = roll_out(cell.task, operator, settings["logs"], seed=LOG_SEED + 1_000 * cell.seed)
    data.save(context.folder / "logs.npz")
    config = TrainConfig(
        out=context.folder / "policy",
        learner="iql" if learner == "iql" else "bc",
        updates=settings["updates"],
        seed=cell.seed,
        batch_size=128,
        hidden=(128, 128),
        learning_rate=1e-3 if learner == "bc" else 3e-4,
        overwrite=True,
    )
    train(config, dataset=data)
    policy = load_policy(config.out)
    own = run_case(policy, cell.task, Case(), settings["own"], OWN_SEED + 1_000 * cell.seed)
    success: dict[str, list[int]] = {}
    arrays: dict[str, Any] = {"own": own.seen}
    for number, (name, case) in enumerate(found.items()):
        runs = run_case(policy, cell.task, case, episodes_of(cell, name), CLEAN_SEED + 1_000 * cell.seed)
        arrays[name], success[name] = runs.seen, [int(one) for one in runs.success]
        context.progress(number + 2, len(found) + 2)
    np.savez(context.folder / "runs.npz", **arrays)
    return {"success": success, "log_success": data.success_rate}


def episodes_of(cell: Cell, case: str) -> int:
    """More of the clean ones, whose alarms are rare."""
    return int(cell.settings["clean" if case == CLEAN else "shifted"])


def detect(cell: Cell, context: CellContext) -> dict[str, Any]:
    """First alarm of each run, by case; for the guard as it is shipped also its cost and what it does to clean runs."""
    import torch

    from sealegs_learning.evaluation.rollouts import RolloutDataset
    from sealegs_learning.support.fit import KINDS, SupportSettings, observations_of, split_episodes
    from sealegs_learning.training.checkpoint import load_policy

    folder = context.folder_of(RUNS, cell.task, cell.seed)
    data, policy = RolloutDataset.load(folder / "logs.npz", cell.task), load_policy(folder / "policy")
    with np.load(folder / "runs.npz", allow_pickle=False) as saved:
        runs = {name: saved[name] for name in saved.files}
    settings = SupportSettings(RATE, 10.0 * RATE, int(cell.settings["fit_updates"]), cell.seed)
    split, own = split_episodes(observations_of(data, policy), cell.seed), list(runs["own"])
    alone: dict[str, list[Sequence[Any]]] = {LOGS: [split.calibrate], OWN: [own]}
    sets = alone.get(cell.arm, [split.calibrate, own])
    if cell.arm == RANDOM:
        return found_by(random_score(cell.seed), sets, runs, cell.task, settings.false_alarms)
    if cell.arm in (LOGS, OWN):
        model = torch.load(context.folder_of(GUARD, cell.task, cell.seed) / MODEL, weights_only=False)
    else:
        model = KINDS[cell.arm](split, policy, settings)
    row = found_by(model_score(model), sets, runs, cell.task, settings.false_alarms)
    if cell.arm == GUARD:
        from sealegs.bench.support_guarded import guarded

        torch.save(model, context.folder / MODEL)
        seed = CLEAN_SEED + 1_000 * cell.seed
        row |= guarded(
            model, split, own, settings, policy, data, cell.task, episodes_of(cell, CLEAN), seed, runs[CLEAN]
        )
    return row


def model_score(model: Any) -> Any:
    """Scores (T,) of an episode's observations (T, D)."""
    from sealegs_learning.support.scores import run

    return lambda episode: run(model, episode)


def random_score(seed: int) -> Any:
    """Scores that know nothing."""
    rng = np.random.default_rng((seed, 0xC0))
    return lambda episode: rng.random(len(episode))


def found_by(score: Any, sets: Sequence[Sequence[Any]], runs: Any, task: str, rate: float) -> dict[str, Any]:
    """Bound, and by case: episodes, alarms before the onset, alarms after it, and how many periods after.

    The threshold is the highest of those of all calibration `sets`, the bound the loosest.
    """
    from sealegs_contract.support import filtered
    from sealegs_learning.support.conformal import conformal_threshold

    reached = [np.array([filtered(score(episode)).max() for episode in episodes]) for episodes in sets]
    thresholds = [conformal_threshold(one, rate) for one in reached]
    hold, bound = max(one.value for one in thresholds), max(one.bound for one in thresholds)
    row: dict[str, Any] = {"bound": bound, "calibrated": sum(map(len, reached)), "cases": {}}
    for name, case in cases(task).items():
        first = np.array([first_alarm(filtered(score(episode)), hold) for episode in runs[name]])
        hit = first >= case.onset
        row["cases"][name] = {
            "group": case.group,
            "episodes": len(first),
            "early": int(((first >= 0) & ~hit).sum()),
            "detected": int(hit.sum()),
            "delay": [int(one) for one in np.sort(first[hit] - case.onset)],
        }
    return row


def first_alarm(medians: NDArray[np.float64], threshold: float) -> int:
    """Period of the first median beyond the threshold; -1 for none."""
    beyond = np.flatnonzero(medians > threshold)
    return int(beyond[0]) if len(beyond) else -1


BENCH = Bench(cells_of, run_cell, summarise)
