"""Independent checks of a command sequence of one joint. Plain Python, step by step; imports nothing of the guard."""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """rad, rad/s, rad/s^2, rad/s^3, s."""

    lower: float
    upper: float
    velocity: float
    acceleration: float
    jerk: float
    dt: float


def excess(xs: list[float], limits: Limits) -> dict[str, float]:
    """Worst excess over each limit of xs, which starts at rest: position in rad, the others relative to their limit.

    An n-th difference of positions known to half an ulp is known to 2^n half ulps: twice that is allowed.
    """
    lower, upper, v, a, j, dt = limits
    ulp = max(abs(lower), abs(upper), abs(xs[0])) * 2.0**-52
    worst = dict.fromkeys(("position", "velocity", "acceleration", "jerk"), -1e9)
    x1 = x2 = x3 = xs[0]
    for x in xs:
        for name, got, limit, noise in (
            ("velocity", (x - x1) / dt, v, 2 * ulp / dt),
            ("acceleration", (x - 2 * x1 + x2) / dt**2, a, 4 * ulp / dt**2),
            ("jerk", (x - 3 * x1 + 3 * x2 - x3) / dt**3, j, 8 * ulp / dt**3),
        ):
            worst[name] = max(worst[name], (abs(got) - limit - noise) / limit)
        worst["position"] = max(worst["position"], lower - x, x - upper)
        x1, x2, x3 = x, x1, x2
    return worst


def can_stop(x: float, s: float, c: float, limits: Limits, slack: float = 0.0) -> bool:
    """Can a joint at x, after step s with change c (rad per period), still keep each single limit for ever?

    Brakes as hard as acceleration and jerk allow, one period after the other, in both directions.
    """
    big_s, big_c, big_j = limits.velocity * limits.dt, limits.acceleration * limits.dt**2, limits.jerk * limits.dt**3
    for y, t, d, top in ((x, s, c, limits.upper), (-x, -s, -c, -limits.lower)):
        while t > 0.0 or d > 0.0:
            d = max(d - big_j, -big_c)
            t += d
            y += t
            if y > top + slack or t > big_s + slack:
                return False
    return True


def viable_range(x: float, s: float, c: float, limits: Limits) -> tuple[float, float] | None:
    """All c' from which `can_stop` holds (an interval: the limits are convex), by bisection; None if there is none."""
    big_s, big_c, big_j = limits.velocity * limits.dt, limits.acceleration * limits.dt**2, limits.jerk * limits.dt**3
    low, high = max(c - big_j, -big_c), min(c + big_j, big_c)

    def fits(d: float) -> bool:
        return (
            limits.lower <= x + s + d <= limits.upper and abs(s + d) <= big_s and can_stop(x + s + d, s + d, d, limits)
        )

    inside = next((d for d in (low + (high - low) * i / 16 for i in range(17)) if fits(d)), None)
    if inside is None:
        return None
    ends = []
    for end in (low, high):
        good, bad = inside, end
        if fits(end):
            good = end
        else:
            for _ in range(40):
                middle = 0.5 * (good + bad)
                good, bad = (middle, bad) if fits(middle) else (good, middle)
        ends.append(good)
    return ends[0], ends[1]
