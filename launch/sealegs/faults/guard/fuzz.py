"""Random limits, and commands that try to break them, for a guard of one joint. All drawn from one `random.Random`."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sealegs.faults.guard import oracle as guard_oracle
from sealegs.faults.guard.oracle import Limits
from sealegs_contract.braking import joint_of
from sealegs_contract.guard import Guard, JointLimits
from sealegs_contract.guard_joint import change_range, safe_change

RELATIVE_TOLERANCE = 1e-9
"""Of a velocity, acceleration or jerk limit, beyond the rounding of a difference; positions have no tolerance."""
STUDIED = 0.01
"""Share of states whose viability is tried by braking step by step."""
Study = Callable[[float, float, float], None]


class History(Protocol):
    """A guard of one joint, or one joint of a guard."""

    def save(self) -> NDArray[np.float64]:
        """As Guard.save gives it: (4, 1)."""


@dataclass(frozen=True)
class Run:
    """One sequence of commands. `problems` is empty where it kept to all limits and could always stop."""

    commands: int
    problems: tuple[str, ...]


def draw_limits(r: random.Random) -> Limits:
    """10 Hz to 1 kHz; limits over many decades, some so narrow that range and speed bound the acceleration."""
    rate = r.choice([10, 20, 50, 100, 250, 1000, 10 ** r.uniform(1, 3)])
    dt = 1 / rate
    lower = r.choice([0.0, -0.5, r.uniform(-3, 3)])
    width, v, a = 10 ** r.uniform(-4, 1), 10 ** r.uniform(-1.5, 1.3), 10 ** r.uniform(-1.5, 2.5)
    change = a / dt
    j = r.choice(
        [change * 2, change * r.uniform(1, 5), change / r.randint(1, 60), 10 ** r.uniform(-2, 5), 1e-3 * a, math.inf]
    )
    if r.random() < 0.3:
        unit = min(j, 2 * change) * dt**3
        width = max(unit * 10 ** r.uniform(-1, 5), 1e-7 * max(1.0, abs(lower)))
        v, a = unit / dt * 10 ** r.uniform(-1, 4), unit / dt**2 * 10 ** r.uniform(0, 3)
    if r.random() < 0.1:
        width = v * dt * 10 ** r.uniform(-3, 1)
    return Limits(lower, lower + width, v, a, j, dt)


def draw_targets(r: random.Random, limits: Limits, count: int, guard: History) -> Iterator[float]:
    """Targets of one kind, which may depend on what the guard did last."""
    lower, upper, dt = limits.lower, limits.upper, limits.dt
    width, quiver = upper - lower, min(limits.jerk, 2 * limits.acceleration / dt) * dt**3
    place, sign, rarely, period = r.uniform(lower, upper), 1.0, 10 ** r.uniform(-2.5, -0.3), r.randint(1, 60)
    kinds = ["walk", "bang", "uniform", "hold", "edge", "delta", "tiny", "huge", "floats", "greedy", "resonant"]
    kind = r.choice(kinds)
    for k in range(count):
        x, step, change, _ = guard.save()[:, 0].tolist()
        flips = r.random() < rarely
        sign = -sign if flips else sign
        if kind == "walk":
            place += r.gauss(0, 0.05 * width)
        elif kind == "hold" and flips:
            place = r.uniform(lower - 0.1 * width, upper + 0.1 * width)
        elif kind == "bang":
            place = 1e6 * sign
        elif kind == "uniform":
            place = r.uniform(lower - width, upper + width)
        elif kind == "edge":
            place = r.choice([lower, upper]) + r.choice([0, 1e-9, -1e-9, 1e-15, r.gauss(0, 1e-9)])
        elif kind == "delta":
            place = x + r.gauss(0.3, 1) * limits.velocity * dt * sign
        elif kind == "tiny":
            place = x + r.choice([0, 5e-324, 1e-300, -1e-18, 1e-12, r.gauss(0, 1) * quiver])
        elif kind == "huge":
            place = r.choice([1e308, -1e308, 1.7e308, 1e150, -1e30, 0.0])
        elif kind == "floats":
            size = 10 ** r.uniform(-320, 308)
            place = r.choice([math.nan, math.inf, r.uniform(lower, upper), size, -size])
        elif kind == "greedy":
            place = x + step + change * r.choice([1, 1, 1, -1, 2])
        elif kind == "resonant":
            place = upper + 1 if (k // period) % 2 else lower - 1
        yield place


def commanded(r: random.Random, limits: Limits, count: int, study: Study) -> list[float]:
    """What a guard makes of such targets, of stops and of values that are not finite, then a stop to rest."""
    arrays = JointLimits(*(np.array([value]) for value in limits[:5]))
    guard = Guard(arrays, limits.dt, relative=r.random() < 0.3)
    xs = [r.choice([limits.lower, limits.upper, r.uniform(limits.lower, limits.upper)])]
    guard.reset(np.array(xs))

    def note() -> None:
        x, step, change, _ = guard.save()[:, 0].tolist()
        xs.append(x)
        study(x, step, change)

    for target in draw_targets(r, limits, count, guard):
        chance = r.random()
        if chance < 0.003:
            guard.stop()
        else:
            guard(np.array([math.nan if chance > 0.995 else target]))
        note()
    for _ in range(count // 4):
        guard.stop()
        note()
    return xs


def chosen(r: random.Random, limits: Limits, count: int, study: Study) -> list[float]:
    """What `safe_change` alone makes of changes chosen against it: it must hold whatever rule decides."""
    joint = joint_of(*limits)
    x, s, c = r.choice([limits.lower, limits.upper, r.uniform(limits.lower, limits.upper)]), 0.0, 0.0
    xs, period, mode = [x], r.randint(1, 80), r.randint(0, 3)
    for k in range(count):
        low, high = change_range(x, s / joint.unit, c / joint.unit, joint)
        wanted = (
            (low, high)[(k // period) % 2],
            r.choice([low, high]),
            r.uniform(low, high),
            high if s >= 0 else low,
        )[mode]
        c = safe_change(wanted, x, s / joint.unit, low, high, joint) * joint.unit
        s += c
        x += s
        xs.append(x)
        study(x, s, c)
    return xs


def fuzz(r: random.Random, count: int) -> Run:
    """One run of about `count` commands under limits of its own, judged by the oracle."""
    limits = draw_limits(r)
    size = max(abs(limits.lower), abs(limits.upper), limits.upper - limits.lower)
    change = limits.acceleration * limits.dt**2
    slack = 1e-9 * min(limits.jerk * limits.dt**3, change, limits.upper - limits.lower) + 1e-11 * size
    stuck = 0

    def study(x: float, s: float, c: float) -> None:
        nonlocal stuck
        if r.random() < STUDIED and not guard_oracle.can_stop(x, s, c, limits, slack):
            stuck += 1

    xs = (chosen if r.random() < 0.25 else commanded)(r, limits, count, study)
    found = guard_oracle.excess(xs, limits)
    problems = [
        f"{name} exceeded by {excess:.3g} under {limits}"
        for name, excess in found.items()
        if excess > (0.0 if name == "position" else RELATIVE_TOLERANCE)
    ]
    if stuck:
        problems.append(f"{stuck} states from which no stop was possible under {limits}")
    return Run(len(xs) - 1, tuple(problems))
