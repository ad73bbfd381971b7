"""Rows about training: runs that are killed."""

from __future__ import annotations

import shutil
from pathlib import Path

from sealegs.bench.frame import Cell, CellContext
from sealegs.bench.options import BenchOptions
from sealegs.bench.resume import ARMS, DATA, run_cell
from sealegs.faults.frame import Fault, Outcome, Trials
from sealegs.faults.rows.data import import_, make_bag

LEARNERS = ("ppo", "iql")
UNITS, EVERY = 600, 60
KILLS = 2
EPISODES, TICKS = 3, 100


def run_killed_training(trials: Trials) -> Outcome:
    """Row 35: `sealegs train` killed at moments of chance and resumed, beside one left alone: byte-equal in the end.

    The bench `resume` does the same for every learner, at length.
    """
    shutil.rmtree(trials.folder, ignore_errors=True)
    data = Cell(DATA)
    _make_data(trials.folder / data.key)
    again: list[float] = []
    wrong: list[str] = []
    for trial in range(trials.count):
        learner = LEARNERS[trial % len(LEARNERS)]
        settings = {"words": ARMS[learner].words, "total": UNITS, "every": EVERY, "log_every": EVERY // 2}
        cell = Cell(learner, "reach", trial, {**settings, "kills": KILLS})
        folder = trials.folder / cell.key
        folder.mkdir()
        row = run_cell(cell, CellContext(BenchOptions(), folder, {data.key: data}, lambda done, total: None))
        unequal = [what for what in ("weights", "curve") if row[f"{what}_equal"] != 1.0]
        if unequal or row["kills"] < KILLS:
            wrong.append(f"trial {trial} ({learner}): {row['kills']} kills, other {' and '.join(unequal) or 'nothing'}")
        again.append(float(row["lost"]))
        trials.progress(trial + 1, trials.count)
    return Outcome(trials.count, len(wrong), again, [f"{KILLS} kills a trial, of {UNITS} units.", *wrong[:3]])


def _make_data(folder: Path) -> None:
    bags = [str(make_bag(folder / "bags" / f"e{seed}", seed, TICKS)) for seed in range(EPISODES)]
    import_(bags, str(folder / "dataset"))


FAULTS: tuple[Fault, ...] = (
    Fault(
        35, "kill -9 of a training", "end with the very weights of a run left alone", 8, 1, run_killed_training,
        "units made again",
    ),
)  # fmt: skip
