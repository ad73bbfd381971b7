"""From what single trials gave to a row's outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sealegs.faults.frame import Outcome


@dataclass(frozen=True)
class Seen:
    """What one trial gave."""

    failure: str = ""
    """What was seen in place of what is required; empty where it was met."""
    value: float | None = None
    """The row's figure; None where the trial has none."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Further figures by name and unit, summed up in a note: `overshoot, rad`."""


def outcome(seen: Sequence[Seen], notes: Sequence[str] = (), total: bool = False) -> Outcome:
    """Counts, values and notes of all trials; with `total` their sum is the only value: thousands of zeros say less."""
    failures = Counter(one.failure for one in seen if one.failure)
    names = dict.fromkeys(name for one in seen for name in one.figures)
    summed = [_summary(name, [one.figures[name] for one in seen if name in one.figures]) for name in names]
    failed = [f"in {count} of {len(seen)} trials: {failure}" for failure, count in failures.most_common()]
    values = [one.value for one in seen if one.value is not None]
    return Outcome(len(seen), sum(failures.values()), [sum(values)] if total else values, [*failed, *summed, *notes])


def _summary(name: str, values: Sequence[float]) -> str:
    p50, p99, largest = np.quantile(values, [0.5, 0.99, 1.0])
    return f"{name}: p50 {p50:.3g}, p99 {p99:.3g}, max {largest:.3g}"
