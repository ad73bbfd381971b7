"""Intervals and rank statistics for comparisons that have to hold up. Pure numpy; floats in, floats out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sealegs_contract.errors import LearningError


class Interval(NamedTuple):
    """Closed interval of a confidence statement."""

    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Whether the two intervals share a point."""
        return self.low <= other.high and other.low <= self.high

    def within(self, low: float, high: float) -> Interval:
        """Cut to [low, high], the range of what it is an interval of."""
        return Interval(max(self.low, low), min(self.high, high))


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a proportion p = k/n, with z the normal quantile:

    (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    """
    if not 0 <= successes <= trials or trials < 1:
        raise LearningError(f"{successes} successes of {trials} trials is no proportion")
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    p, n = successes / trials, trials
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1.0 + z * z / n
    # At p = 0 and p = 1 the bound is exactly p; rounding must not say otherwise.
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == trials else (centre + half) / scale
    return Interval(low, high)


def bootstrap_mean_interval(
    values: Sequence[float] | NDArray, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of the mean of `values` (n,)."""
    array = _vector(values)
    rng = np.random.default_rng(seed)
    means = array[rng.integers(0, len(array), (resamples, len(array)))].mean(axis=1)
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(means, [tail, 100.0 - tail])
    return Interval(float(low), float(high))


def t_interval(values: Sequence[float] | NDArray, confidence: float = 0.95) -> Interval:
    """Student's interval of the mean of `values` (n >= 2): mean +- t_{n-1} s / sqrt(n)."""
    from scipy.special import stdtrit

    array = _vector(values)
    count = len(array)
    if count < 2:
        raise LearningError("an interval over seeds needs at least 2 of them, got 1")
    half = float(stdtrit(count - 1, 0.5 + confidence / 2.0)) * float(array.std(ddof=1)) / math.sqrt(count)
    return Interval(float(array.mean()) - half, float(array.mean()) + half)


def success_interval(successes: Sequence[int], trials: int, confidence: float = 0.95) -> Interval:
    """Interval of the success rate over S training seeds, k_s successes of n trials each: in [0, 1], the hull of

    Student's over seeds  mean_s p_s +- t_{S-1} sd_s(p) / sqrt(S),  p_s = k_s / n,
    Wilson's over all trials  of sum_s k_s in S n.

    Each alone can be too narrow: Student's has no width where seeds agree, and Wilson's takes the trials of one
    training for independent trials of the method. One seed has Wilson's alone.
    """
    over_trials = wilson_interval(sum(successes), trials * len(successes), confidence)
    if len(successes) < 2:
        return over_trials
    over_seeds = t_interval([k / trials for k in successes], confidence)
    hull = Interval(min(over_seeds.low, over_trials.low), max(over_seeds.high, over_trials.high))
    return hull.within(0.0, 1.0)


class PairedComparison(NamedTuple):
    """mean(a - b) over pairs, its bootstrap interval, and how often each side was ahead."""

    difference: float
    interval: Interval
    a_ahead: int
    b_ahead: int
    p_value: float


def paired_comparison(a: Sequence[float] | NDArray, b: Sequence[float] | NDArray, seed: int = 0) -> PairedComparison:
    """Compare outcomes (n,) of the same episodes (same seeds) under two policies.

    `p_value` is the exact two-sided sign test over the pairs that differ (McNemar's test for successes).
    """
    first, second = _vector(a), _vector(b)
    if len(first) != len(second):
        raise LearningError(f"a paired comparison needs equally many outcomes, got {len(first)} and {len(second)}")
    difference = first - second
    ahead, behind = int((difference > 0).sum()), int((difference < 0).sum())
    return PairedComparison(
        float(difference.mean()),
        bootstrap_mean_interval(difference, seed=seed),
        ahead,
        behind,
        sign_test(ahead, behind),
    )


def sign_test(wins: int, losses: int) -> float:
    """Exact two-sided binomial p-value of `wins` against `losses` under even odds; 1 without any."""
    n, k = wins + losses, min(wins, losses)
    if n == 0:
        return 1.0
    return min(1.0, 2.0 * sum(math.comb(n, i) for i in range(k + 1)) / 2.0**n)


def ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Ranks from 1, ties sharing their mean rank; (n,)."""
    array = _vector(values)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2.0)[inverse], dtype=np.float64)


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Linear correlation of (n,) and (n,); NaN where one of them is constant."""
    a, b = _vector(x), _vector(y)
    if len(a) != len(b):
        raise LearningError(f"a correlation needs equally many values, got {len(a)} and {len(b)}")
    if np.ptp(a) == 0.0 or np.ptp(b) == 0.0:
        return math.nan
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norm if norm > 0.0 else math.nan


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Rank correlation: the Pearson correlation of the ranks."""
    return pearson(ranks(x), ranks(y))


def kendall(x: ArrayLike, y: ArrayLike) -> float:
    """Kendall's tau-b of (n,) and (n,): (concordant - discordant) / sqrt(pairs untied in x * pairs untied in y)."""
    a, b = _vector(x), _vector(y)
    if len(a) != len(b):
        raise LearningError(f"a correlation needs equally many values, got {len(a)} and {len(b)}")
    upper = np.triu_indices(len(a), 1)
    signs_a, signs_b = (np.sign(v[:, None] - v[None, :])[upper] for v in (a, b))
    norm = math.sqrt(float(np.abs(signs_a).sum()) * float(np.abs(signs_b).sum()))
    return float(signs_a @ signs_b) / norm if norm > 0.0 else math.nan


def _vector(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise LearningError(f"expected a non-empty list of numbers, got shape {array.shape}")
    return array
