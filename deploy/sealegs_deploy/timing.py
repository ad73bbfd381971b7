"""Durations of a control loop in bounded memory: exact percentiles over a window, counts and maxima over everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW = 1 << 16  # 22 minutes at 50 Hz, 512 KiB
RECENT = 1000
HISTOGRAM_BINS = 40
NS_PER_MS = 1e6


class Durations:
    """Durations in ns. Keeps the last `window` of them."""

    def __init__(self, window: int = WINDOW) -> None:
        self._ring = np.zeros(window, dtype=np.int64)
        self.count = 0
        self.max_ns = 0

    def add(self, duration_ns: int) -> None:
        """Record one duration."""
        self._ring[self.count % len(self._ring)] = duration_ns
        self.count += 1
        self.max_ns = max(self.max_ns, duration_ns)

    def newest(self, count: int | None = None) -> NDArray[np.int64]:
        """The last `count` durations that are still kept (all, without it), in no particular order beyond the cut."""
        kept = min(self.count, len(self._ring))
        wanted = kept if count is None else min(count, kept)
        return self._ring[(np.arange(self.count - wanted, self.count)) % len(self._ring)]

    def summary(self, recent: int | None = None) -> dict[str, float]:
        """`count`, and p50, p99 and max in ms: over the newest `recent`, or over the window with the max of all."""
        values = self.newest(recent)
        if not len(values):
            return {"count": 0}
        p50, p99 = np.percentile(values, [50.0, 99.0])
        top = self.max_ns if recent is None else values.max()
        named = {"p50_ms": p50, "p99_ms": p99, "max_ms": top}
        return {"count": self.count} | {name: float(value) / NS_PER_MS for name, value in named.items()}

    def histogram(self) -> dict[str, list[float]]:
        """Counts over the window, which must not be empty: `edges_ms` (bins + 1, from 0) and `counts` (bins).

        The last bin also holds the tail above p99.9, which would else squeeze all others into the first.
        """
        values = self.newest() / NS_PER_MS
        edges = np.linspace(0.0, max(float(np.percentile(values, 99.9)), 1e-3), HISTOGRAM_BINS + 1)
        counts, _ = np.histogram(np.clip(values, 0.0, edges[-1]), edges)
        return {"edges_ms": edges.tolist(), "counts": counts.tolist()}


class LoopTiming:
    """What a policy node reports of itself.

    observation age: robot time of the tick minus the oldest stream's stamp. inference: host time in the policy.
    command latency: host time from the arrival of the joint sample to the command having been sent.
    """

    def __init__(self) -> None:
        self.observation_age = Durations()
        self.inference = Durations()
        self.command_latency = Durations()
        self.misses = 0

    def summary(self, recent: int | None = None) -> dict[str, Any]:
        """Plain data, times in ms."""
        return {
            "observation_age": self.observation_age.summary(recent),
            "inference": self.inference.summary(recent),
            "command_latency": self.command_latency.summary(recent),
            "misses": self.misses,
        }

    def full(self) -> dict[str, Any]:
        """`summary` over everything, with histograms: what timing.json holds."""
        named = {
            "observation_age": self.observation_age,
            "inference": self.inference,
            "command_latency": self.command_latency,
        }
        return self.summary() | {
            "histograms": {n: durations.histogram() for n, durations in named.items() if durations.count}
        }


def flat(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A summary without nesting, for diagnostics: `inference_p99_ms` and so on."""
    values: dict[str, Any] = {}
    for name, figures in summary.items():
        nested = figures if isinstance(figures, Mapping) else {"": figures}
        values |= {f"{name}_{key}".rstrip("_"): value for key, value in nested.items()}
    return values
