"""Differences between trained arms. The unit of chance is the training seed: episodes of one training are not
independent trials of the method.

    d_s = mean over tasks of the mean over starts of (arm - control), both of seed s
    interval: mean_s d_s +- t_{S-1} sd_s(d) / sqrt(S), cut to where a difference can lie
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sealegs.bench.frame import Row, Table
from sealegs_contract.errors import LearningError
from sealegs_learning.results import Claim
from sealegs_learning.statistics import Interval, t_interval

FloatArray = NDArray[np.float64]
Outcome = Callable[[Row], Any]
"""Outcomes of a trained arm, (E,), start by start, or one number."""
MEAN_OF_TASKS = "mean of tasks"
ANYWHERE = Interval(-np.inf, np.inf)
OF_SHARES = Interval(-1.0, 1.0)
"""Where the difference of two shares must lie."""


@dataclass(frozen=True)
class Difference:
    """`arm` less `control`: the mean paired difference of every seed, (S,), by task."""

    arm: str
    control: str
    by_task: dict[str, FloatArray]
    within: Interval = ANYWHERE
    """Where it must lie."""

    @property
    def by_seed(self) -> FloatArray:
        """Mean over the tasks, (S,)."""
        return np.asarray(np.mean(list(self.by_task.values()), axis=0))


def seed_means(rows: Sequence[Row], arm: str, task: str, outcome: Outcome) -> dict[int, float]:
    """Mean outcome of `arm` on `task` by seed."""
    return {seed: float(values.mean()) for seed, values in _by_seed(rows, arm, task, outcome).items()}


def _by_seed(rows: Sequence[Row], arm: str, task: str, outcome: Outcome) -> dict[int, FloatArray]:
    found = {int(r["seed"]): np.atleast_1d(outcome(r)) for r in rows if (r["arm"], r["task"]) == (arm, task)}
    return {seed: np.asarray(found[seed], dtype=np.float64) for seed in sorted(found)}


def paired_difference(
    rows: Sequence[Row], arm: str, control: str, outcome: Outcome, within: Interval = ANYWHERE
) -> Difference:
    """Over the tasks that both have. LearningError unless both have the same seeds, on every task, and the same starts.

    `within` is where the difference must lie: OF_SHARES where outcomes are 0 or 1. A seed's tasks are averaged, so
    every task counts alike, however many episodes it has.
    """
    tasks = [t for t in dict.fromkeys(r["task"] for r in rows) if {arm, control} <= _arms_of(rows, t)]
    if not tasks:
        raise LearningError(f"no task has both {arm!r} and {control!r}")
    by_task: dict[str, FloatArray] = {}
    shapes: set[tuple[int, ...]] = set()
    for task in tasks:
        ours, theirs = (_by_seed(rows, one, task, outcome) for one in (arm, control))
        shapes |= {tuple(ours), tuple(theirs)}
        if len(shapes) > 1 or any(len(ours[seed]) != len(theirs[seed]) for seed in ours):
            raise LearningError(f"{arm!r} and {control!r} on {task}: seeds or starts differ, they cannot be paired")
        by_task[task] = np.array([float((ours[seed] - theirs[seed]).mean()) for seed in ours])
    return Difference(arm, control, by_task, within)


def _arms_of(rows: Sequence[Row], task: str) -> set[str]:
    return {row["arm"] for row in rows if row["task"] == task}


def seed_interval(values: Sequence[float] | FloatArray, low: float = -np.inf, high: float = np.inf) -> Interval | None:
    """Student's interval over seeds (S,), cut to [low, high], in which the mean must lie. None for one seed."""
    if len(values) < 2:
        return None
    return t_interval(values).within(low, high)


def difference_claim(quantity: str, difference: Difference, target: str) -> Claim:
    """The claim over all tasks. One seed has no interval, and leaves it open."""
    words, values = f"{quantity}: {difference.arm} minus {difference.control}, paired by seed", difference.by_seed
    interval = seed_interval(values, *difference.within)
    if interval is None:
        return Claim(f"{words} (one seed has no interval; its own: {float(values[0]):+.3g})", None, target)
    return Claim(words, float(values.mean()), target, interval)


def difference_table(title: str, differences: Sequence[Difference]) -> Table:
    """Every difference task by task, since a mean of tasks may hide one that got worse; then over the tasks."""
    lines: list[list[str | float | int]] = []
    for one in differences:
        over_all = {MEAN_OF_TASKS: one.by_seed} if len(one.by_task) > 1 else {}
        for task, values in (one.by_task | over_all).items():
            interval = bounds(seed_interval(values, *one.within))
            lines.append([one.arm, one.control, task, float(values.mean()), *interval, len(values)])
    return Table(title, ("arm", "minus", "task", "difference", "low", "high", "seeds"), lines)


def bounds(interval: Interval | None) -> tuple[str | float, str | float]:
    """Low and high for a table."""
    return ("-", "-") if interval is None else (interval.low, interval.high)
