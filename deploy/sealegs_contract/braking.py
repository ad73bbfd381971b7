"""How a joint with jerk limits brakes: distances, and the changes that still fit into them. Closed forms, plain floats.

Per period dt: step s = x_k - x_(k-1) = v dt, change c = s_k - s_(k-1) = a dt^2, jerk unit J = j_max dt^3.
Each period chooses c' in [c-J, c+J] and [-C, C]; then s' = s + c', |s'| <= S; x' = x + s', L <= x' <= U.
All but `joint_of` and `usable` count steps, changes and distances in units of J, so that J = 1, and q = C/J.
`guard_batch` has the numpy twins, equal bit for bit.
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

ROUNDING = 2e-13  # relative to the position limits: motions end this far inside them
NEAR = 1e-15  # relative: a peak this close to its limit touches it
NEWTON_STEPS = 3
TIGHT = 0.05  # of J: an approach that ends this much short of its target is not improved
SLACK = 1.0 + 1e-6  # so that rounding never makes easy what is not


class Joint(NamedTuple):
    """Limits of one joint in one period. The first three are in rad, the others in units of J."""

    lower: float
    upper: float
    unit: float  # J
    margin: float  # for rounding, in units of J
    fastest: float  # S
    change: float  # q = C/J: what this joint can use (see `usable`)
    plateau: float  # ramp_sum(q): below S - plateau the velocity limit does not bind
    rise: float  # peak(s, c) <= rise + rise_slope * max(s, 0): further from a limit no check is needed
    rise_slope: float
    rest: float  # rest_distance(s, c) <= rest + rest_slope * max(s, 0), for s <= fastest + q
    rest_slope: float
    calm_low: float  # rad: from here to `calm_high` no position limit can bind, if |s + c| <= fastest + q
    calm_high: float
    steady: float  # |s| <= steady: no velocity limit can bind


Values = tuple[
    float, float, float, float, float, float, float, float, float, float, float, float, float, float
]  # fmt: skip
"""A Joint, or its values as a plain tuple: Python takes that apart three times as fast."""


def joint_of(lower: float, upper: float, v: float, a: float, j: float, period_s: float) -> Joint:
    """From rad, rad/s, rad/s^2, rad/s^3."""
    size = max(abs(lower), abs(upper), upper - lower)
    width = max(upper - lower - 8.0 * ROUNDING * size, 1e-30)
    change, unit = usable(width, v * period_s, a * period_s**2, j * period_s**3)
    fastest, q = v * period_s / unit, change / unit
    plateau = ramp_sum(q)
    rise, rise_slope = above_convex(peak(0.0, q, q)[0], peak(fastest + q, q, q)[0], fastest + q)
    rest, rest_slope = above_convex(
        rest_distance(0.0, q, q, plateau), rest_distance(fastest + q, q, q, plateau), fastest + q
    )
    margin = ROUNDING * size / unit
    far = (rise + rise_slope * (fastest + q) + margin) * unit * SLACK
    return Joint(
        lower, upper, unit, margin, fastest, q, plateau, rise, rise_slope, rest, rest_slope,
        lower + far, upper - far, (fastest - plateau) / SLACK,
    )  # fmt: skip


def above_convex(first: float, last: float, width: float) -> tuple[float, float]:
    """A line above a convex function with these values at 0 and at `width`: its value at 0, and its slope."""
    return first * (1.0 + 1e-9) + 1e-9, (last - first) / width * (1.0 + 1e-9)


def usable(width: float, fastest: float, change: float, jerk: float) -> tuple[float, float]:
    """The largest C that this joint can use at all, and J <= 2C (a larger or infinite one never binds). In rad.

    C - J must be undone before S:  (C-J) + (C-2J) + ... <= S.  From a turning point the rise at C must fit the range:
    turn(C) <= U - L (continuous time: (2/3) C^3 / J^2, which is what a bang-bang jerk reaches in that range).
    """
    jerk = min(jerk, 2.0 * change)
    c = min(change, (brake(fastest / jerk) + 1.0) * jerk, width)
    if turn(c / jerk) * jerk > width:
        low, high = 0.0, c
        for _ in range(100):  # bisection
            c = 0.5 * (low + high)
            low, high = (low, c) if turn(c / jerk) * jerk > width else (c, high)
        c = low
    return c, min(jerk, 2.0 * c)


def turn(q: float) -> float:
    """The rise from a turning point that is left with the change q, braking from there as hard as possible."""
    return peak(q, q, q)[0]


def ramp_sum(c: float) -> float:
    """c + (c-1) + (c-2) + ... over its positive terms: the speed still to come from a change c that ramps to 0."""
    n = c // 1.0
    return (n + 1.0) * (c - 0.5 * n)


def brake(distance: float) -> float:
    """Largest first step x of x + (x-1) + (x-2) + ... = distance >= 0: the inverse of `ramp_sum`.

    n = floor((sqrt(1 + 8 d) - 1) / 2),  x = d/(n+1) + n/2.
    """
    if distance <= 0.5:  # n = 0: a joint at full speed, mostly
        return distance + 0.0  # -0.0 to 0.0, as below
    n = (sqrt(2.0 * distance + 0.25) - 0.5) // 1.0
    return distance / (n + 1.0) + 0.5 * n


def toward(speed: float) -> float:
    """The change that gains `speed` soonest and ends with c = 0: `brake`, with the sign of `speed`."""
    return brake(speed) if speed >= 0.0 else -brake(-speed)


def peak(s: float, c: float, q: float) -> tuple[float, float]:
    """F: how far a joint rises that now makes step s with change c, and then brakes as hard as it can; and dF/dc.

    c_i = max(c - i, -q), s_i = s + c_1 + ... + c_i,  F = s + sum of s_i until s_i <= 0.  With s_i > 0 <=> i <= n:
    ramp, n < k = floor(c + q):   F = (n+1) s + c n(n+1)/2 - n(n+1)(n+2)/6
    else m = floor(s_k / q) more steps at -q:  F += m s_k - q m(m+1)/2.
    n = floor(c - 1/2 + sqrt((c - 1/2)^2 + 2s)), which is k or more if 2s >= (q + 1/2)^2.
    F is convex and piecewise linear; dF/dc counts s = (last s) + c.
    """
    k = (c + q) // 1.0
    if 2.0 * s < (q + 1.0) * (q + 1.0):  # beyond (q + 1/2)^2, for rounding
        b = c - 0.5
        inside = b * b + 2.0 * s
        n = (b + sqrt(inside)) // 1.0 if inside > 0.0 else -1.0
        if n < 0.0:
            return s, 1.0
        if n < k:
            n1 = n + 1.0
            return n1 * (s + n * (0.5 * c - (n + 2.0) / 6.0)), 0.5 * n1 * (n + 2.0)
    last = s + k * (c - 0.5 * (k + 1.0))
    m = (last / q) // 1.0
    k1 = k + 1.0
    return k1 * (s + k * (0.5 * c - (k + 2.0) / 6.0)) + m * (last - q * (0.5 * (m + 1.0))), k1 * (0.5 * (k + 2.0) + m)


def largest_change(c: float, lowest: float, s: float, distance: float, q: float) -> float:
    """Largest c' <= c whose peak stays within `distance`; never below `lowest` (braking as hard as the limits allow).

    Newton from the right on a convex function falls towards the root and stays on its right. If it has not arrived, the
    chord to `lowest` lies above the function: its root is safe.
    """
    near = distance + NEAR * (distance + 1.0)
    rise, slope = peak(s + c, c, q)
    if rise <= near:
        return c
    for _ in range(NEWTON_STEPS):
        c -= (rise - distance) / slope
        if c <= lowest:
            return lowest
        rise, slope = peak(s + c, c, q)
        if rise <= near:
            return c
    low = peak(s + lowest, lowest, q)[0]
    return lowest if low >= distance else lowest + (c - lowest) * ((distance - low) / (rise - low))


def rest_distance(s: float, c: float, q: float, plateau: float) -> float:
    """Exact distance of a joint that now makes step s with change c, then brakes to rest without turning back.

    Its law is c' = max(c - 1, -q, -brake(s)): a ramp, a plateau, a tail that ends with c = 0 as s = 0.
    With p = 1 - c and a = floor(p): after k ramp steps s_k = s + k c - k(k+1)/2, and the tail starts as soon as
    s_k < ramp_sum(1 - c_k)   <=>   k^2 + 2pk + (a+1)(p - a/2) - s > 0,   never on the ramp if s >= q^2 + 1/4.
    Plateau: m = ceil((s_k - plateau) / q).  Tail: x = brake(s), n = floor(x), sum of j (x - j) = n(n+1)(3x - 2n - 1)/6.
    """
    k = (c + q) // 1.0
    if s < q * q + 1.0:  # beyond q^2 + 1/4, for rounding
        p = 1.0 - c
        a = p // 1.0
        inside = p * p - (a + 1.0) * (p - 0.5 * a) + s
        tail = (sqrt(inside) - p) // 1.0 + 1.0 if inside > 0.0 else 0.0
        if tail < -a:
            tail = -a
        if tail < 0.0:
            tail = 0.0
        if tail < k:
            k = tail
    d = s
    if k != 0.0:
        d += k * (s + (k + 1.0) * (0.5 * c - (k + 2.0) / 6.0))
        s += k * (c - 0.5 * (k + 1.0))
    if s <= 0.0:
        return d
    if s > plateau:
        m = -((plateau - s) / q // 1.0)
        d += m * (s - q * (0.5 * (m + 1.0)))
        s -= m * q
    n = (sqrt(2.0 * s + 0.25) - 0.5) // 1.0
    # x = s/(n+1) + n/2, so  n(n+1)(3x - 2n - 1)/6 = n (s/2 - (n+1)(n+2)/12)
    return d + n * (0.5 * s - (n + 1.0) * (n + 2.0) / 12.0)


def full_brake(s: float, q: float) -> float:
    """s^2 / 2q + s/2 <= s + (s-q) + (s-2q) + ... over its positive terms: no joint rests within less."""
    return 0.5 * s * (s / q + 1.0)


def approach(e: float, r: float, low: float, high: float, joint: Values) -> float:
    """The largest c' in [low, high] from which the joint can rest within e >= 0, or nearly so; r is its step now.

    Never below -brake(r), which would turn back. Chords of the convex rest_distance - e end on its safe side.
    """
    _, _, _, _, fastest, q, plateau, _, _, rest, rest_slope, _, _, _ = joint
    s_high = r + high
    if e >= rest and s_high <= fastest and e >= rest + rest_slope * s_high and r + low <= e:  # far away
        return high
    if r > 0.0:
        if r <= plateau + 1.0:  # else -brake(r) < -q
            least = -brake(r)
            if least > low:
                low = least
        if low >= high:
            return high
    s_low = r + low
    if s_low > e or (s_low > 0.0 and full_brake(s_low, q) > e * SLACK and low <= high):  # too late, whatever it does
        return low
    if r > 0.0 and low + high < 0.0:  # braking: most likely the lowest
        g_low = rest_distance(s_low, low, q, plateau) - e
        if g_low >= -TIGHT:
            return low
        g_high = rest_distance(s_high, high, q, plateau) - e
        if g_high <= 0.0:
            return high
    else:
        g_high = rest_distance(s_high, high, q, plateau) - e
        if g_high <= 0.0:
            return high
        g_low = rest_distance(s_low, low, q, plateau) - e
        if g_low >= -TIGHT:
            return low
    c = low - g_low * ((high - low) / (g_high - g_low))
    g = rest_distance(r + c, c, q, plateau) - e
    if g > 0.0:
        return low - g_low * ((c - low) / (g - g_low))
    return c - g * ((high - c) / (g_high - g))
