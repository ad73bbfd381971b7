"""How often labels agree with true progress, by how far apart the two frames truly are."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sealegs_learning.statistics import Interval, wilson_interval

CLEARLY_APART = 0.1
BIN_EDGES = tuple(round(0.1 * k, 1) for k in range(11))


@dataclass(frozen=True)
class Accuracy:
    """Counts over pairs whose |difference of true progress| lies in (low, high].

    `labelled` pairs got a preference, `correct` of them name the truly better frame; the others abstained. `interval`
    is that of the accuracy, `right_interval` that of the share of all pairs judged right: 95%, over episodes.
    """

    low: float
    high: float
    pairs: int
    labelled: int
    correct: int
    interval: Interval
    right_interval: Interval

    @property
    def accuracy(self) -> float | None:
        """Share of correct labels among the labelled pairs; None without any."""
        return self.correct / self.labelled if self.labelled else None

    @property
    def right(self) -> float | None:
        """Share of all pairs that were judged right: an abstention is not right; None without any pair."""
        return self.correct / self.pairs if self.pairs else None

    def row(self) -> dict[str, Any]:
        """As JSON."""
        intervals = {"interval": list(self.interval), "right_interval": list(self.right_interval)}
        return asdict(self) | {"accuracy": self.accuracy, "right": self.right} | intervals


@dataclass(frozen=True)
class Answers:
    """A judge's answers to n pairs whose truth is known. All arrays are (n,).

    `difference` is true progress b - a. `episode_a` and `episode_b` number the episodes of the two frames: pairs that
    share one are not independent, and intervals say so.
    """

    difference: NDArray[np.float64]
    probability_b_better: NDArray[np.float64]
    abstain: NDArray[np.bool_]
    episode_a: NDArray[np.int64]
    episode_b: NDArray[np.int64]

    def count(self, low: float, high: float = 1.0) -> Accuracy:
        """Accuracy of the pairs with low < |difference| <= high.

        A pair without any true difference has no right answer and counts nowhere, even where low is 0.
        """
        apart = np.abs(self.difference)
        inside = (apart > low) & (apart <= high + 1e-9)
        labelled = inside & ~self.abstain
        correct = labelled & ((self.probability_b_better > 0.5) == (self.difference > 0))
        return Accuracy(
            low,
            high,
            int(inside.sum()),
            int(labelled.sum()),
            int(correct.sum()),
            self._interval(correct, labelled),
            self._interval(correct, inside),
        )

    @cached_property
    def clearly_apart(self) -> Accuracy:
        """Pairs whose true progress differs by more than 0.1."""
        return self.count(CLEARLY_APART)

    @cached_property
    def bins(self) -> list[Accuracy]:
        """`count` for each bin between neighbouring BIN_EDGES."""
        return [self.count(low, high) for low, high in itertools.pairwise(BIN_EDGES)]

    def _interval(self, correct: NDArray[np.bool_], among: NDArray[np.bool_]) -> Interval:
        return clustered_interval(correct[among], self.episode_a[among], self.episode_b[among])


def clustered_interval(
    correct: NDArray[np.bool_], episode_a: NDArray, episode_b: NDArray, resamples: int = 1000, seed: int = 0
) -> Interval:
    """95% interval of the share of `correct` (pairs,) when pairs share episodes and so are not independent.

    Bootstrap over episodes (Owen 2007, the pigeonhole bootstrap): a resample draws episodes with multiplicities w, and
    a pair counts w[a] w[b], or w[a] inside one episode. Never narrower than Wilson's for independent pairs; all of
    [0, 1] without pairs.
    """
    if not len(correct):
        return Interval(0.0, 1.0)
    simple = wilson_interval(int(correct.sum()), len(correct))
    episodes, place = np.unique(np.concatenate([episode_a, episode_b]), return_inverse=True)
    a, b = place[: len(correct)], place[len(correct) :]
    rng = np.random.default_rng(seed)
    w = rng.multinomial(len(episodes), np.full(len(episodes), 1.0 / len(episodes)), size=resamples)
    weight = np.where(a == b, w[:, a], w[:, a] * w[:, b])
    total = weight.sum(axis=1)
    shares = (weight * correct).sum(axis=1)[total > 0] / total[total > 0]
    low, high = np.percentile(shares, [2.5, 97.5])
    return Interval(min(simple.low, float(low)), max(simple.high, float(high)))
