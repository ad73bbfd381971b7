"""What a periodic loop measures of its timing. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

WINDOW = 3000  # one minute at 50 Hz


@dataclass(frozen=True, slots=True)
class Quantiles:
    """p50, p99 and maximum of recent durations, in ms."""

    p50: float = 0.0
    p99: float = 0.0
    max: float = 0.0

    @classmethod
    def of_ns(cls, durations: deque[int]) -> Quantiles:
        """Of durations in ns; zeros when there are none."""
        if not durations:
            return cls()
        p50, p99, top = np.quantile(np.fromiter(durations, np.int64) / 1e6, [0.5, 0.99, 1.0])
        return cls(float(p50), float(p99), float(top))

    def texts(self, name: str) -> dict[str, float]:
        """`NAME_p50_ms` and so on, for /diagnostics."""
        return {f"{name}_p50_ms": self.p50, f"{name}_p99_ms": self.p99, f"{name}_max_ms": self.max}


class Pacer:
    """Measures a loop that should run every `period_ns` of the steady clock.

    A tick is late when it comes more than half a period after its due time; `missed` counts whole periods skipped.
    """

    def __init__(self, period_ns: int) -> None:
        self.period_ns = period_ns
        self.ticks = 0
        self.late = 0
        self.missed = 0
        self._last_ns: int | None = None
        self._periods: deque[int] = deque(maxlen=WINDOW)
        self._busy: deque[int] = deque(maxlen=WINDOW)

    def begin(self, monotonic_ns: int) -> None:
        """A tick begins."""
        self.ticks += 1
        if self._last_ns is not None:
            period = monotonic_ns - self._last_ns
            self._periods.append(period)
            self.late += period > 1.5 * self.period_ns
            self.missed += max(0, round(period / self.period_ns) - 1)
        self._last_ns = monotonic_ns

    def end(self, monotonic_ns: int) -> None:
        """The tick's work is done."""
        if self._last_ns is not None:
            self._busy.append(monotonic_ns - self._last_ns)

    def texts(self) -> dict[str, object]:
        """Keys and values for /diagnostics."""
        return {
            "ticks": self.ticks,
            "late": self.late,
            "missed": self.missed,
            **Quantiles.of_ns(self._periods).texts("period"),
            **Quantiles.of_ns(self._busy).texts("busy"),
        }
