"""Durations of a control loop in bounded memory: exact percentiles over a window, counts and maxima over everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.timing import KIND, SCHEMA_VERSION

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

    def tail(self) -> dict[str, float]:
        """Of the window, which must not be empty: how many lie beyond the histogram's last edge, and the largest."""
        values, edge = self.newest() / NS_PER_MS, self.histogram()["edges_ms"][-1]
        return {"count": int((values > edge).sum()), "max_ms": float(values.max())}


class LoopTiming:
    """What a policy node reports of itself, over its commands while ACTIVE.

    observation age: robot time of the tick minus the oldest stream's stamp. inference: host time in the policy.
    command latency: host time from the arrival of the joint sample to the command having been sent.
    period jitter: how far the host time between two commands in a row is from `period_ns`, either way; 0: unknown.
    Misses are late ticks (a command more than half a period late) and late inference (beyond its budget).
    """

    def __init__(self, period_ns: int = 0) -> None:
        self.period_ns = period_ns
        self.observation_age = Durations()
        self.inference = Durations()
        self.command_latency = Durations()
        self.period_jitter = Durations()
        self.late_ticks = 0
        self.late_inference = 0
        self._sent_ns: int | None = None

    @property
    def misses(self) -> int:
        """Late ticks and late inference."""
        return self.late_ticks + self.late_inference

    def sent(self, host_ns: int, latency_ns: int) -> None:
        """A command was sent, `latency_ns` after its joint sample had arrived."""
        self.command_latency.add(latency_ns)
        if self._sent_ns is not None and self.period_ns:
            interval = host_ns - self._sent_ns
            self.period_jitter.add(abs(interval - self.period_ns))
            self.late_ticks += 2 * interval > 3 * self.period_ns
        self._sent_ns = host_ns

    def paused(self) -> None:
        """The commands end here, or go on after a while that is no jitter."""
        self._sent_ns = None

    def summary(self, recent: int | None = None) -> dict[str, Any]:
        """Plain data, times in ms."""
        return {
            **{name: durations.summary(recent) for name, durations in self._named().items()},
            "late_ticks": self.late_ticks,
            "late_inference": self.late_inference,
            "misses": self.misses,
        }

    def full(self) -> dict[str, Any]:
        """`summary` over everything, with histograms: what timing.json holds, see `sealegs_contract.timing`."""
        counted = {name: durations for name, durations in self._named().items() if durations.count}
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": KIND,
            "period_ms": self.period_ns / NS_PER_MS,
            **self.summary(),
            "histograms": {name: durations.histogram() for name, durations in counted.items()},
            "tails": {name: durations.tail() for name, durations in counted.items()},
        }

    def _named(self) -> dict[str, Durations]:
        return {
            "observation_age": self.observation_age,
            "inference": self.inference,
            "command_latency": self.command_latency,
            "period_jitter": self.period_jitter,
        }


def flat(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A summary without nesting, for diagnostics: `inference_p99_ms` and so on."""
    values: dict[str, Any] = {}
    for name, figures in summary.items():
        nested = figures if isinstance(figures, Mapping) else {"": figures}
        values |= {f"{name}_{key}".rstrip("_"): value for key, value in nested.items()}
    return values
