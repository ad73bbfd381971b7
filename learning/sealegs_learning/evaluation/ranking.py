"""Ranking settings by evaluated policies of several training seeds, all run on the same starts.

The unit of chance is the training seed where there are several (Student's interval over the seeds' means; of success
the hull with Wilson's over all episodes), and the episode where there is one, which says nothing about other seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import LearningError
from sealegs_learning.statistics import Interval, bootstrap_mean_interval, success_interval, t_interval

Metric = Literal["success", "final_progress", "return"]
RANGE: dict[Metric, Interval] = {
    "success": Interval(0.0, 1.0),
    "final_progress": Interval(0.0, 1.0),
    "return": Interval(-np.inf, np.inf),
}
"""Where a mean must lie."""
Outcomes = Mapping[int, Sequence[float]]
"""Outcomes by episode, (E,), of the policy of each training seed; episode i of every policy has the same start."""


@dataclass(frozen=True)
class Standing:
    """A setting's place, its mean, and how far it is behind the first, paired by seed or by episode."""

    name: str
    place: int
    """One more than the settings whose mean is better: equal ones share a place."""
    seeds: tuple[int, ...]
    episodes: int
    mean: float
    interval: Interval
    behind: float
    behind_interval: Interval

    @property
    def apart(self) -> bool:
        """Whether the first is ahead by more than chance: the interval of the difference lies above zero."""
        return self.behind_interval.low > 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "name": self.name,
            "place": self.place,
            "seeds": list(self.seeds),
            "episodes": self.episodes,
            "mean": self.mean,
            "interval": list(self.interval),
            "behind_first": self.behind,
            "behind_first_interval": list(self.behind_interval),
            "apart_from_first": self.apart,
        }


def rank(outcomes: Mapping[str, Outcomes], metric: Metric) -> list[Standing]:
    """Settings from the best mean to the worst. LearningError unless all have the same seeds and episodes."""
    tables = {name: _table(name, by_seed) for name, by_seed in outcomes.items()}
    shapes = {(tuple(sorted(outcomes[name])), table.shape) for name, table in tables.items()}
    if len(shapes) != 1:
        raise LearningError(f"settings can be compared only on the same seeds and episodes, got {sorted(shapes)}")
    means = {name: float(table.mean()) for name, table in tables.items()}
    order = sorted(tables, key=lambda name: -means[name])
    place = {name: 1 + sum(other > means[name] for other in means.values()) for name in order}
    first = tables[order[0]]
    return [_standing(name, place[name], sorted(outcomes[name]), tables[name], first, metric) for name in order]


def _table(name: str, by_seed: Outcomes) -> NDArray[np.float64]:
    """Outcomes (seeds, episodes)."""
    lengths = {len(values) for values in by_seed.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise LearningError(f"setting {name!r} needs equally many episodes for every seed, got {sorted(lengths)}")
    return np.array([by_seed[seed] for seed in sorted(by_seed)], dtype=np.float64)


def _standing(
    name: str, place: int, seeds: Sequence[int], table: NDArray[np.float64], first: NDArray[np.float64], metric: Metric
) -> Standing:
    behind, (low, high) = first - table, RANGE[metric]
    interval = t_interval(behind.mean(axis=1)) if len(table) > 1 else bootstrap_mean_interval(behind[0])
    return Standing(
        name,
        place,
        tuple(seeds),
        table.shape[1],
        float(table.mean()),
        mean_interval(table, metric),
        float(behind.mean()),
        interval.within(low - high, high - low),
    )


def mean_interval(table: NDArray[np.float64], metric: Metric) -> Interval:
    """95% interval of the mean of outcomes (seeds, episodes)."""
    if metric == "success":
        return success_interval([int(row.sum()) for row in table], table.shape[1])
    if len(table) > 1:
        return t_interval(table.mean(axis=1)).within(*RANGE[metric])
    return bootstrap_mean_interval(table[0])
