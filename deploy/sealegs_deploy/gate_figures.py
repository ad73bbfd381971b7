"""The gate's figures, one pure function each, over the periods of a replay. NaN: not measured, there was nothing to.

Outputs are compared as actions in [-1, 1] (`ActionSpec.to_action`), so that every joint counts alike. Rows (T, J).
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
SAME_RAD = 1e-6
FULL_SCALE = 0.99
"""Actions beyond this share of the full scale count as saturated."""
MOVED, PREDICTED = 0.02, 0.3
"""Deviation of a joint's recorded actions, and their correlation with a linear fit, from which on a joint tells."""
QUANTILE = 99.0
Z95 = NormalDist().inv_cdf(0.975)


def share(values: NDArray[np.bool_]) -> float:
    """Share of True; NaN of nothing."""
    return float(values.mean()) if values.size else float("nan")


def wilson_low(hits: int, trials: int) -> float:
    """Lower end of Wilson's 95% interval of p = hits / trials; 0 for no hit:

    (p + z^2/2n - z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    """
    if not hits:
        return 0.0
    p, n, z = hits / trials, trials, Z95
    return (p + z * z / (2 * n) - z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1.0 + z * z / n)


def limited_share(target: FloatArray, command: FloatArray) -> float:
    """Share of the periods in which the guard gave some joint another command than the policy asked for."""
    return share(np.asarray((np.abs(target - command) > SAME_RAD).any(axis=1)))


def saturated_share(action: FloatArray) -> float:
    """Share of the joints' actions at full scale."""
    return share(np.abs(action) > FULL_SCALE)


def jumps(action: FloatArray) -> FloatArray:
    """|a_t - a_{t-1}| (T - 1, J): what changes from one period to the next."""
    return np.abs(np.diff(action, axis=0))


def acceleration_share(output: FloatArray, relative: bool, period_s: float, limits: FloatArray) -> FloatArray:
    """Acceleration that the outputs ask for over the joint's limit (J,) rad/s^2, (T - 1, J) or (T - 2, J).

    A delta is v T, so its change is a T^2; an absolute target has to be differentiated twice.
    """
    steps = output if relative else np.diff(output, axis=0)
    return np.abs(np.diff(steps, axis=0)) / period_s**2 / limits


def explained(action: FloatArray, recorded: FloatArray) -> float:
    """1 - sum |b - a|^2 / sum |b - mean b|^2: 1 repeats the recorded actions b, 0 is no better than their mean."""
    spread = float(((recorded - recorded.mean(axis=0)) ** 2).sum()) if len(recorded) else 0.0
    return 1.0 - float(((recorded - action) ** 2).sum()) / spread if spread > 0.0 else float("nan")


def correlation(action: FloatArray, recorded: FloatArray) -> float:
    """Of all joints' deviations from their means together, each joint in its own units of action."""
    a, b = action - action.mean(axis=0), recorded - recorded.mean(axis=0)
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / scale if scale > 0.0 else 0.0


def size_ratio(action: FloatArray, recorded: FloatArray) -> float:
    """Root mean square of the actions over that of the recorded ones: 1 moves as much."""
    recorded_size = float(np.sqrt((recorded**2).mean())) if recorded.size else 0.0
    return float(np.sqrt((action**2).mean())) / recorded_size if recorded_size > 0.0 else float("nan")


def slope(action: FloatArray, recorded: FloatArray) -> float:
    """k of the best fit recorded = k action: 1 where actions are the recorded ones' mean, 1/c where c times them."""
    power = float((action**2).sum())
    return float((action * recorded).sum()) / power if power > 0.0 else float("nan")


def joint_correlations(action: FloatArray, recorded: FloatArray) -> FloatArray:
    """(J, J): how joint i of the policy goes with joint j of the record; 0 where either stands still."""
    a, b = action - action.mean(axis=0), recorded - recorded.mean(axis=0)
    scale = np.sqrt((a**2).sum(axis=0))[:, None] * np.sqrt((b**2).sum(axis=0))
    result: FloatArray = np.divide(a.T @ b, scale, out=np.zeros_like(scale), where=scale > 1e-12)
    return result


def foreign_joints(correlations: FloatArray, moved: NDArray[np.bool_], margin: float) -> list[int]:
    """Joints i whose actions go with another joint's record better, by `margin`, than with their own.

    Only joints that `moved` in the record can tell.
    """
    own = np.diag(correlations)
    others = np.where(np.eye(len(own), dtype=bool) | ~moved[None, :], -np.inf, correlations).max(axis=1)
    return [int(i) for i in np.flatnonzero(moved & (others > own + margin))]


def quantile(values: FloatArray, percent: float = QUANTILE) -> float:
    """NaN of nothing."""
    return float(np.percentile(values, percent)) if values.size else float("nan")


def loop_gain(jacobian: FloatArray) -> FloatArray:
    """Spectral radius of d output / d joint position (N, J, J), rad/rad: (N,).

    With delta actions q' = q + f(q): an error grows where the gain is above 1 and one period passes before it acts.
    """
    radius: FloatArray = np.abs(np.linalg.eigvals(jacobian)).max(axis=-1)
    return radius


def linear_fit(observed: FloatArray, recorded: FloatArray) -> FloatArray:
    """Recorded actions (M, J) as a least-squares fit on their own observations (M, D) repeats them.

    What a policy that knew the linear part of these moments would repeat of what was done in them.
    """
    deviation = observed.std(axis=0)
    x = (observed - observed.mean(axis=0)) / np.where(deviation > 1e-9, deviation, 1.0)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    fit: FloatArray = x @ np.linalg.lstsq(x, recorded, rcond=None)[0]
    return fit


def telling_joints(observed: FloatArray, recorded: FloatArray) -> NDArray[np.bool_]:
    """Joints (J,) that move in the record, and not by chance: nobody can follow a joint that only shakes."""
    if len(recorded) < 2:
        return np.zeros(recorded.shape[1], dtype=bool)
    own = np.diag(joint_correlations(linear_fit(observed, recorded), recorded))
    telling: NDArray[np.bool_] = (recorded.std(axis=0) > MOVED) & (own > PREDICTED)
    return telling


def bias(action: FloatArray, recorded: FloatArray) -> FloatArray:
    """|mean a - mean b| of each joint (J,), in deviations of its record b: what it always does more, or less."""
    deviation = recorded.std(axis=0)
    away = np.abs((action - recorded).mean(axis=0))
    result: FloatArray = np.divide(away, deviation, out=np.zeros_like(away), where=deviation > 1e-12)
    return result
