"""Per-feature statistics, as LeRobot keeps them in stats.json and beside each episode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.pixels import decode_rgb

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}


def array_stats(values: NDArray[Any]) -> dict[str, list[float]]:
    """min, max, mean, std, count and quantiles over the rows of `values` (N, D) or (N,); each a list of D numbers."""
    rows = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    stats = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
    stats.update({name: np.quantile(rows, q, axis=0) for name, q in QUANTILES.items()})
    return {**{name: value.tolist() for name, value in stats.items()}, "count": [len(rows)]}


def image_stats(images: Sequence[bytes]) -> dict[str, list[Any]]:
    """The same per channel, shaped (3, 1, 1), over pixels in [0, 1] of compressed images."""
    pixels = np.concatenate([np.asarray(decode_rgb(data), np.float64).reshape(-1, 3) / 255.0 for data in images])
    stats = array_stats(pixels)
    count = [len(images)]
    return {name: [[[v]] for v in value] for name, value in stats.items() if name != "count"} | {"count": count}
