"""A claim: a figure beside its target, and whether it holds."""

from __future__ import annotations

from sealegs_contract.robot import Finite, FrozenModel

Interval = tuple[Finite, Finite]


class Claim(FrozenModel):
    """A figure beside its target. `holds` is computed by the constructors below, never typed."""

    claim: str
    value: Finite | None = None
    interval: Interval | None = None
    target: str
    holds: bool

    @classmethod
    def at_least(cls, claim: str, value: float | None, threshold: float, interval: Interval | None = None) -> Claim:
        """Holds when value >= threshold; an unknown value (None) does not."""
        holds = value is not None and value >= threshold
        return cls(claim=claim, value=value, interval=interval, target=f">= {threshold:g}", holds=holds)

    @classmethod
    def at_most(cls, claim: str, value: float | None, threshold: float, interval: Interval | None = None) -> Claim:
        """Holds when value <= threshold; an unknown value (None) does not."""
        holds = value is not None and value <= threshold
        return cls(claim=claim, value=value, interval=interval, target=f"<= {threshold:g}", holds=holds)

    @classmethod
    def within(cls, claim: str, value: float | None, bounds: Interval, interval: Interval | None = None) -> Claim:
        """Holds when low <= value <= high."""
        low, high = bounds
        holds = value is not None and low <= value <= high
        return cls(claim=claim, value=value, interval=interval, target=f"in [{low:.3g}, {high:.3g}]", holds=holds)

    @classmethod
    def apart(cls, claim: str, higher: Interval, lower: Interval) -> Claim:
        """Holds when the two intervals do not overlap; `value` is the gap between them (negative: overlap)."""
        gap = higher[0] - lower[1]
        return cls(claim=claim, value=gap, interval=None, target="gap > 0", holds=gap > 0.0)
