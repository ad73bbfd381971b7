"""How often labels agree with true progress, by how far apart the two frames truly are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sealegs_learning.statistics import Interval, wilson_interval

BIN_EDGES = tuple(round(0.1 * k, 1) for k in range(11))


@dataclass(frozen=True)
class Accuracy:
    """Counts over pairs whose |difference of true progress| lies in (low, high].

    `labelled` pairs got a preference, `correct` of them name the truly better frame; the others abstained.
    """

    low: float
    high: float
    pairs: int
    labelled: int
    correct: int

    @property
    def accuracy(self) -> float | None:
        """Share of correct labels among the labelled pairs; None without any."""
        return self.correct / self.labelled if self.labelled else None

    @property
    def interval(self) -> Interval:
        """95% Wilson interval of the accuracy; all of [0, 1] without labels."""
        return wilson_interval(self.correct, self.labelled) if self.labelled else Interval(0.0, 1.0)

    def row(self) -> dict[str, Any]:
        """As JSON, with the 95% Wilson interval."""
        return asdict(self) | {"accuracy": self.accuracy, "interval": list(self.interval)}


def count(
    difference: ArrayLike, probability_b_better: ArrayLike, abstain: ArrayLike, low: float, high: float = 1.0
) -> Accuracy:
    """Accuracy of the pairs with low < |difference| <= high. Arrays are (pairs,); difference = progress b - progress a.

    A pair without any true difference has no right answer and counts nowhere, even where low is 0.
    """
    inside, labelled, correct = masks(difference, probability_b_better, abstain, low, high)
    return Accuracy(low, high, int(inside.sum()), int(labelled.sum()), int(correct.sum()))


def masks(
    difference: ArrayLike, probability_b_better: ArrayLike, abstain: ArrayLike, low: float, high: float = 1.0
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Pairs inside (low, high], those of them with a label, and those with a correct one; (pairs,) each."""
    d, p = np.asarray(difference, dtype=np.float64), np.asarray(probability_b_better, dtype=np.float64)
    inside = (np.abs(d) > low) & (np.abs(d) <= high + 1e-9)
    labelled = inside & ~np.asarray(abstain, dtype=bool)
    return inside, labelled, labelled & ((p > 0.5) == (d > 0))


def clustered_interval(
    correct: NDArray[np.bool_], episode_a: NDArray, episode_b: NDArray, resamples: int = 1000, seed: int = 0
) -> Interval:
    """95% interval of the share of `correct` (pairs,) when pairs share episodes and so are not independent.

    Bootstrap over episodes (Owen 2007, the pigeonhole bootstrap): a resample draws episodes with multiplicities w, and
    a pair counts w[a] w[b], or w[a] inside one episode. Never narrower than Wilson's for independent pairs.
    """
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


def by_bins(
    difference: NDArray, probability_b_better: NDArray, abstain: NDArray, edges: Sequence[float] = BIN_EDGES
) -> list[Accuracy]:
    """`count` for each bin between neighbouring edges."""
    pairs = itertools.pairwise(edges)
    return [count(difference, probability_b_better, abstain, low, high) for low, high in pairs]
