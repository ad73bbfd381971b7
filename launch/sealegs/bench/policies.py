"""Bench `policies`: what cloning gains from bins, action chunks, frames of the past and a camera, on the same logs.

Controls: the plain Gaussian; the policy that sees the joints alone, beside the one that has a camera instead of the
objects' positions; and positions without velocities, beside the same with the last frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sealegs.bench import plots
from sealegs.bench.frame import Bench, Cell, CellContext, Row, Summary, Table
from sealegs.bench.options import BenchOptions
from sealegs.bench.over_seeds import (
    OF_SHARES,
    Difference,
    bounds,
    difference_claim,
    difference_table,
    paired_difference,
    seed_means,
)
from sealegs_learning.learners.settings import BCSettings
from sealegs_learning.policies.settings import InputSettings
from sealegs_learning.statistics import Interval, success_interval
from sealegs_learning.training.config import TrainConfig

DATA, SEEN_DATA = "data", "data with images"
TASKS = ("drawer", "reach")
SEEN_TASKS = ("drawer",)
"""Tasks of the arms with a camera: rendering is what takes the time."""
SEEDS, SEEN_SEEDS = (0, 1, 2, 3, 4), (0, 1, 2)
"""Trainings of every arm; fewer where cameras are rendered."""
SEED_OF_STARTS = 50_000
MARGIN = 0.1
"""Success by which a variant may fall behind and still count as no worse."""
JOINTS = ("joint_position", "joint_velocity")


@dataclass(frozen=True)
class Arm:
    """One variant. `positions`: every field but velocities."""

    bc: BCSettings = field(default_factory=BCSettings)
    inputs: InputSettings = field(default_factory=InputSettings)
    positions: bool = False


HISTORY = InputSettings(history=4)
ARMS: dict[str, Arm] = {
    "gaussian": Arm(),
    "squared error": Arm(BCSettings(loss="mse")),
    "bins, mean": Arm(BCSettings(loss="bins", sharpness=1.0)),
    "bins, mode": Arm(BCSettings(loss="bins", sharpness=4.0)),
    "chunks 8/4": Arm(BCSettings(chunk=8, execute=4)),
    "history 4": Arm(inputs=HISTORY),
    "no velocities": Arm(positions=True),
    "no velocities, history 4": Arm(inputs=HISTORY, positions=True),
}
BLIND, SEEING, TOLD = "joints", "joints and camera", "joints and objects"
SEEN_ARMS: dict[str, Arm] = {
    BLIND: Arm(BCSettings(loss="mse"), InputSettings(fields=JOINTS)),
    SEEING: Arm(
        BCSettings(loss="mse"),
        InputSettings(fields=JOINTS, cameras=("front",), shift=2, brightness=0.0, contrast=0.0),
    ),
    TOLD: Arm(BCSettings(loss="mse")),
}


def cells(options: BenchOptions) -> list[Cell]:
    """Logs of every task, then every arm on them."""
    quick = options.quick
    logs = {"episodes": 10 if quick else 100}
    seen_logs = {"episodes": 4 if quick else 150, "cameras": ["front"]}
    learning = {"updates": 100 if quick else 3_000, "episodes": 10 if quick else 50, "batch": 128}
    seeing = {"updates": 10 if quick else 1_500, "episodes": 2 if quick else 25, "batch": 64}
    tasks = options.tasks_or(TASKS)
    seen_tasks = [task for task in tasks if task in SEEN_TASKS or options.tasks]
    seeds, seen_seeds = options.seeds_or(SEEDS), options.seeds_or(SEEN_SEEDS)
    first = _log_seed(options)
    found = [Cell(DATA, task, first, logs) for task in tasks]
    found += [Cell(SEEN_DATA, task, first, seen_logs) for task in seen_tasks]
    found += [Cell(arm, task, seed, learning, stage=1) for task in tasks for seed in seeds for arm in ARMS]
    found += [Cell(arm, task, seed, seeing, stage=1) for task in seen_tasks for seed in seen_seeds for arm in SEEN_ARMS]
    return found


def _log_seed(options: BenchOptions) -> int:
    """The first seed makes the logs, which all seeds then learn from."""
    return min(options.seeds_or(SEEDS))


def run_cell(cell: Cell, context: CellContext) -> dict[str, Any]:
    """The logs' own success, or outcomes of the trained arm by episode."""
    import torch

    from sealegs_learning.evaluation.evaluate import evaluate
    from sealegs_learning.evaluation.rollouts import RolloutDataset, roll_out
    from sealegs_learning.sessions.offline import offline_session

    torch.set_num_threads(1)
    if cell.arm in (DATA, SEEN_DATA):
        cameras = tuple(cell.settings.get("cameras", ()))
        data = roll_out(cell.task, "noisy", cell.settings["episodes"], seed=cell.seed, cameras=cameras)
        data.save(context.folder / "rollouts.npz")
        return {"success": data.success_rate, "rows": len(data.state)}
    source = SEEN_DATA if cell.arm in SEEN_ARMS else DATA
    logs = context.folder_of(source, cell.task, _log_seed(context.options))
    data = RolloutDataset.load(logs / "rollouts.npz", cell.task)
    config = _config(cell, data)
    session = offline_session(config, data)
    for done in range(0, config.updates, max(config.updates // 20, 1)):
        session.advance(min(done + max(config.updates // 20, 1), config.updates))
        context.progress(session.done, config.updates)
    result = evaluate(session.policy.eval(), cell.task, cell.settings["episodes"], SEED_OF_STARTS)
    return {
        "successes": [int(one) for one in result.successes],
        "final_progress": [round(float(one), 4) for one in result.final_progress],
    }


def _config(cell: Cell, data: Any) -> TrainConfig:
    arm = (ARMS | SEEN_ARMS)[cell.arm]
    inputs = arm.inputs
    if arm.positions:
        inputs = replace(inputs, fields=tuple(f.name for f in data.observation_spec.fields if "velocity" not in f.name))
    return TrainConfig(
        out=Path("unused"),
        learner="bc",
        updates=cell.settings["updates"],
        seed=cell.seed,
        batch_size=cell.settings["batch"],
        hidden=(128, 128),
        learning_rate=1e-3,
        bc=arm.bc,
        inputs=inputs,
    )


def summarise(rows: Sequence[Row], options: BenchOptions) -> Summary:
    """Success and paired differences, with intervals over the training seeds."""
    learned = [row for row in rows if row["arm"] in ARMS | SEEN_ARMS]
    tasks = list(dict.fromkeys(row["task"] for row in learned))
    groups = [(task, group) for group in (ARMS, SEEN_ARMS) for task in tasks if _has(learned, task, group)]
    figure, axes = plots.panels(len(groups), height=2.6)
    for panel, (task, group) in zip(axes, groups, strict=True):
        values = {arm: float(np.mean(_success_by_seed(learned, arm, task))) for arm in group}
        ranges = {arm: found for arm in group if (found := _success_interval(learned, arm, task))}
        plots.bars(panel, values, ranges, plots.colours(list(group)))
        panel.set_title(task if group is ARMS else f"{task}: what is seen")
        panel.set_xlabel("success, 95% interval over seeds")
    differences = {pair: paired_difference(learned, *pair, _successes, OF_SHARES) for pair in CLAIMED}
    claims = [difference_claim("success", differences[pair], target) for pair, target in CLAIMED.items()]
    return Summary(claims, {"policies": figure}, _tables(learned, list(differences.values())), _notes(learned))


def _has(rows: Sequence[Row], task: str, group: Mapping[str, Arm]) -> bool:
    return any(row["task"] == task and row["arm"] in group for row in rows)


def _successes(row: Row) -> Sequence[int]:
    """0 or 1 of every episode."""
    found: Sequence[int] = row["successes"]
    return found


def _success_by_seed(rows: Sequence[Row], arm: str, task: str) -> list[float]:
    return list(seed_means(rows, arm, task, _successes).values())


def _success_interval(rows: Sequence[Row], arm: str, task: str) -> Interval | None:
    """Over training seeds; None for one."""
    found = [_successes(row) for row in rows if (row["arm"], row["task"]) == (arm, task)]
    return success_interval([sum(one) for one in found], len(found[0])) if len(found) > 1 else None


CLAIMED = {
    ("bins, mean", "gaussian"): f"low > -{MARGIN:g}",
    ("chunks 8/4", "gaussian"): f"low > -{MARGIN:g}",
    ("history 4", "gaussian"): f"low > -{MARGIN:g}",
    ("no velocities, history 4", "no velocities"): "low > 0",
    (SEEING, BLIND): "low > 0",
}
"""Arm and control, and what must hold of the success of one less the other's."""


def _tables(rows: Sequence[Row], differences: Sequence[Difference]) -> list[Table]:
    lines: list[list[str | float | int]] = []
    for arm, task in dict.fromkeys((row["arm"], row["task"]) for row in rows):
        shares = _success_by_seed(rows, arm, task)
        progress = seed_means(rows, arm, task, lambda row: row["final_progress"])
        interval = bounds(_success_interval(rows, arm, task))
        lines.append(
            [task, arm, float(np.mean(shares)), *interval, len(shares), float(np.mean(list(progress.values())))]
        )
    columns = ("task", "arm", "success", "low", "high", "seeds", "final progress")
    return [
        Table("Success, 95% intervals over training seeds", columns, lines),
        difference_table("Differences of success, paired by start and seed, 95% over seeds", differences),
    ]


def _notes(rows: Sequence[Row]) -> list[str]:
    seeds = sorted({int(row["seed"]) for row in rows if row["arm"] in ARMS})
    episodes = sorted({len(row["successes"]) for row in rows})
    few = f"{len(seeds)} seed(s) leave wide intervals; a full run takes {len(SEEDS)}, with cameras {len(SEEN_SEEDS)}."
    return [
        *NOTES,
        "Intervals of success are the hull of Student's over training seeds, all on the same logs, and Wilson's over "
        "all their episodes; of differences Student's over each seed's mean of tasks. A training is measured on "
        f"{' or '.join(map(str, episodes))} starts. Where all seeds agree a difference's interval has no width: a "
        "ceiling, not certainty.",
        *([few] if len(seeds) < len(SEEDS) else []),
    ]


NOTES = (
    "Logs are of the scripted expert with correlated noise; every arm has the same rows, updates and starts.",
    "The camera arm sees joints and one 60 x 80 image at 10 Hz, a control period late, instead of the objects' places.",
    "Velocities follow from positions and hidden motion matters little in these tasks: a gain from history is not "
    "expected to be large. `tests/learning/test_policies` has a task where it decides.",
)

BENCH = Bench(cells, run_cell, summarise)
