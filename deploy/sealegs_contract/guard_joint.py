"""The rules of the guard for one joint: which changes are safe, and which of them leads to the target.

A state (x, s, c) is viable if some choice of changes keeps all limits for ever. Exactly the viable states are kept:

    K_S: -brake(S + s) <= c' <= brake(S - s)     the speed limit, reached with c = 0
    K_U: peak(s', c') <= U - x                   the rise on the hardest braking that the limits allow; K_L mirrored

Units as in `braking`; docs/concepts/guard.md has the proof. `guard_batch` has the numpy twins, equal bit for bit.
"""

from __future__ import annotations

from sealegs_contract.braking import Values, approach, brake, largest_change, toward

TRACK = 0.25  # of J: a joint this close to its moving target, and to what would reach it, follows it


def change_range(x: float, s: float, c: float, joint: Values) -> tuple[float, float]:
    """The changes within jerk, acceleration and velocity limits. Outside the position limits only inward speeds."""
    lower, upper, _, _, fastest, q, plateau, _, _, _, _, _, _, _ = joint
    low, high = c - 1.0, c + 1.0
    if low <= -q:
        low = -q
    if high >= q:
        high = q
    up = (fastest if x <= upper else 0.0) - s
    if up < plateau:
        most = brake(up) if up >= 0.0 else -brake(-up)
        high = most if low < most < high else low if most <= low else high
    down = (fastest if x >= lower else 0.0) + s
    if down < plateau:
        least = -brake(down) if down >= 0.0 else brake(-down)
        low = least if low < least < high else high if least >= high else low
    return low, high


def wanted_change(e: float, moved: float, off: float, s: float, low: float, high: float, joint: Values) -> float:
    """Towards a target at distance e that has moved since the last period, when the joint was `off` it (both in rad).

    Reached (as nearly as the limits allow) if the joint was on it before, or can stay on it afterwards (two changes
    later). Otherwise rest at the target, in a frame that moves on as the target did.
    """
    _, _, unit, _, fastest, q, _, _, _, _, _, _, _, _ = joint
    w, direct = moved / unit, e - s
    if low - TRACK <= direct <= high + TRACK:
        if -TRACK <= off / unit <= TRACK:
            return direct
        after = w - e
        if -1.0 <= after <= 1.0 and -q <= after <= q and -1.0 <= after - direct <= 1.0:
            return direct
    if not -fastest <= w <= fastest:
        w = -fastest if w < 0.0 else fastest
    e -= w
    return approach(e, s - w, low, high, joint) if e >= 0.0 else -approach(-e, w - s, -high, -low, joint)


def wanted_speed_change(e: float, off: float, x: float, s: float, low: float, high: float, joint: Values) -> float:
    """Towards a target given relative to the last command: e is the wanted step, reached without overshoot.

    `off` (rad): how far the last wanted step was missed.

    A limit that is pushed against is approached as a target that stands still: a change left there would throw it back.
    """
    lower, upper, unit, _, _, q, _, _, _, rest, rest_slope, _, _, _ = joint
    direct = e - s
    if -q <= direct <= q and -TRACK <= off / unit <= TRACK:
        return direct
    c = direct if -1.0 <= direct <= 1.0 else toward(direct)
    c = low if c < low else high if c > high else c
    s1 = s + c
    if s1 > 0.0:
        above = (upper - x) / unit
        if 0.0 <= above < rest + rest_slope * s1:
            most = approach(above, s, low, high, joint)
            return most if most < c else c
    elif s1 < 0.0:
        below = (x - lower) / unit
        if 0.0 <= below < rest - rest_slope * s1:
            least = -approach(below, -s, -high, -low, joint)
            return least if least > c else c
    return c


def safe_change(c: float, x: float, s: float, low: float, high: float, joint: Values) -> float:
    """`c` in [low, high], limited to what can still stop below `upper` and above `lower`."""
    lower, upper, unit, margin, _, q, _, rise, rise_slope, _, _, _, _, _ = joint
    c = low if c < low else high if c > high else c
    s1 = s + c
    above = (upper - x) / unit
    if 0.0 <= above < (rise + rise_slope * s1 if s1 > 0.0 else rise) and (c > 0.0 or s1 > 0.0):
        c = largest_change(c, low, s, above - margin if above > margin else 0.0, q)
        s1 = s + c
    below = (x - lower) / unit
    if 0.0 <= below < (rise - rise_slope * s1 if s1 < 0.0 else rise) and (c < 0.0 or s1 < 0.0):
        c = -largest_change(-c, -high, -s, below - margin if below > margin else 0.0, q)
    return c


def next_step(
    x: float, step: float, change: float, target: float, before: float, joint: Values, relative: bool
) -> tuple[float, float]:
    """The next step and change (rad) towards `target`; `before` was the last one. Both targets inside the limits.

    `relative` targets are given relative to the last command, so that target - x is the wanted step.
    The change is returned, not left to be told from the steps: its rounding would be felt over a whole braking.
    """
    lower, upper, unit, _, fastest, q, _, _, _, _, _, calm_low, calm_high, steady = joint
    s, last = step / unit, change / unit
    calm = calm_low <= x <= calm_high
    inside = calm or lower <= x <= upper
    if inside and -steady <= s <= steady:  # only jerk and acceleration can bind
        low, high = last - 1.0, last + 1.0
        if low <= -q:
            low = -q
        if high >= q:
            high = q
    else:
        low, high = change_range(x, s, last, joint)
    e = target - x
    distance = e / unit
    if relative:
        c = wanted_speed_change(distance, x - before, x, s, low, high, joint)
    else:
        c = wanted_change(distance, target - before, x - before, s, low, high, joint)
    within = low if c < low else high if c > high else c
    c = within if calm and -fastest - q <= s + within <= fastest + q else safe_change(c, x, s, low, high, joint)
    change = c * unit
    step_now = e if c == distance - s else step + change
    return (step_now, change) if inside else inward(x, step, step_now, change, joint)


def stop_step(x: float, step: float, change: float, joint: Values) -> tuple[float, float]:
    """The next step and change (rad) of the quickest way to rest."""
    unit = joint[2]
    s = step / unit
    low, high = change_range(x, s, change / unit, joint)
    c = safe_change(-toward(s), x, s, low, high, joint)
    return inward(x, step, step + c * unit, c * unit, joint)


def inward(x: float, last: float, step: float, change: float, joint: Values) -> tuple[float, float]:
    """Step and change, but never further out; that can only be asked by a history that breaks the limits."""
    lower, upper = joint[:2]
    if (x > upper and step > 0.0) or (x < lower and step < 0.0):
        return 0.0, -last
    return step, change
