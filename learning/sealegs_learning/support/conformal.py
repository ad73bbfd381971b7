"""Split conformal thresholds over episodes.

Let M_1..M_n be the largest filtered scores of n calibration episodes, and M that of a new one. If all n + 1 are
exchangeable, and the score was fixed before the n were looked at, then with k = ceil((n + 1)(1 - rate))

    P(M > M_(k)) <= 1 - k / (n + 1) <= rate        M_(k): k-th smallest

whatever the score and the distribution. The probability is over the calibration episodes too. Steps within an episode
are not exchangeable, so the unit is the episode; the expected share of steps beyond the threshold is at most the same.

For these very n the share of new episodes that pass is itself drawn, at most from Beta(n + 1 - k, k), which with few
episodes lies far above its mean at times. `Threshold.sure` is its 95% quantile.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from sealegs_contract.errors import LearningError

CONFIDENCE = 0.95


class Threshold(NamedTuple):
    """A threshold, what bounds the probability that a new episode passes it, and what does so with CONFIDENCE.

    `bound` is on average over calibration sets, `sure` for CONFIDENCE of them.
    """

    value: float
    bound: float
    sure: float


def conformal_threshold(maxima: NDArray[np.floating], rate: float) -> Threshold:
    """From the largest scores (n,) of the calibration episodes. Fewer than 1/rate - 1 can bound only 1/(n + 1)."""
    count = len(maxima)
    if not count or not 0.0 < rate < 1.0:
        raise LearningError(f"a threshold needs episodes and a rate in (0, 1), got {count} episodes and rate {rate}")
    rank = min(math.ceil((count + 1) * (1.0 - rate) - 1e-9), count)
    sure = float(beta.ppf(CONFIDENCE, count + 1 - rank, rank))
    return Threshold(float(np.sort(maxima)[rank - 1]), 1.0 - rank / (count + 1), sure)
