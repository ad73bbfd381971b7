"""From scores of how far an observation is from the training data to a speed: shared by fitting, benches and robots.

m_t = median of the newest `window` scores; before the start they count as 0, so that no single score decides.
speed = 1 up to `slow`, then falls linearly to `lowest` at `hold`; beyond `hold` one must stop.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
WINDOW = 5


def filtered(scores: NDArray[np.floating], window: int = WINDOW) -> FloatArray:
    """m_t of scores (..., T). What is not finite counts as infinitely far."""
    known = np.where(np.isfinite(scores), np.maximum(scores, 0.0), np.inf)
    padded = np.concatenate([np.zeros((*known.shape[:-1], window - 1)), known], axis=-1)
    newest = np.sort(np.lib.stride_tricks.sliding_window_view(padded, window, axis=-1), axis=-1)
    return np.asarray(newest[..., window // 2], dtype=np.float64)


def speed_of(median: NDArray[np.floating] | float, slow: float, hold: float, lowest: float) -> FloatArray:
    """Share of the policy's step that is taken at m (...), in [lowest, 1]."""
    share = np.clip((np.asarray(median, dtype=np.float64) - slow) / (hold - slow), 0.0, 1.0)
    return np.asarray(1.0 - (1.0 - lowest) * share)
