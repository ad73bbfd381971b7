"""The equations of PPO (Schulman et al., arXiv 1707.06347) and of GAE (arXiv 1506.02438), on arrays.

    delta_t = r_t + gamma V(s'_t) (1 - terminated_t) - V(s_t)
    A_t     = delta_t + gamma lambda (1 - ended_t) A_{t+1}
    L_pi    = -mean min(rho A, clip(rho, 1-eps, 1+eps) A),   rho = pi(a|s) / pi_old(a|s)
    L_V     = mean (V - R)^2,  or with clipping  mean max((V - R)^2, (V_old + clip(V - V_old, +-eps) - R)^2)
    H       = sum log sigma + J/2 log(2 pi e)

Each loss has its slope beside it: the derivative that autograd would find, several times cheaper at these sizes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
BoolArray = NDArray[np.bool_]


def gae(
    reward: Array, value: Array, next_value: Array, terminated: BoolArray, ended: BoolArray, gamma: float, lam: float
) -> Array:
    """Generalised advantages (T, N) of T steps of N envs; all arguments are (T, N).

    `next_value` is V of the state that the step led to: at an episode's end, of its last observation, never of the next
    episode's first. A time limit ends an episode without terminating it, so it is bootstrapped.
    """
    delta = reward + gamma * next_value * ~terminated - value
    carry = gamma * lam * ~ended
    advantage = np.empty_like(delta)
    ahead = np.zeros_like(delta[0])
    for t in range(len(delta) - 1, -1, -1):
        ahead = delta[t] + carry[t] * ahead
        advantage[t] = ahead
    return advantage


def discounted_sums(reward: Array, ended: BoolArray, start: Array, gamma: float) -> tuple[Array, Array]:
    """G_t = gamma G_{t-1} + r_t, zero after an end: (T, N), and what carries over to the next rollout (N,)."""
    sums, running = np.empty_like(reward), start.copy()
    for t in range(len(reward)):
        running = gamma * running + reward[t]
        sums[t] = running
        running = running * ~ended[t]
    return sums, running


def log_prob_of(z: Array, log_std: Array) -> Array:
    """log N(a; mu, sigma) (B,) from z = (a - mu) / sigma (B, J) and log sigma (J,)."""
    found: Array = -0.5 * np.einsum("...j,...j->...", z, z) - (
        log_std.sum() + 0.5 * math.log(2.0 * math.pi) * len(log_std)
    )
    return found


def entropy(log_std: Array) -> float:
    """Entropy of the Gaussian with log deviations (J,)."""
    return float(log_std.sum()) + 0.5 * math.log(2.0 * math.pi * math.e) * len(log_std)


def clipped_surrogate(ratio: Array, advantage: Array, clip: float) -> float:
    """-mean min(rho A, clip(rho) A) over (B,)."""
    return -float(np.minimum(ratio * advantage, np.clip(ratio, 1.0 - clip, 1.0 + clip) * advantage).mean())


def surrogate_slope(ratio: Array, advantage: Array, clip: float) -> Array:
    """dL_pi / d log pi (B,): -rho A / B where the unclipped term is the smaller, else 0."""
    gain = ratio * advantage
    bounded = np.minimum(np.maximum(ratio, 1.0 - clip), 1.0 + clip) * advantage
    return gain * ((gain <= bounded) * np.float32(-1.0 / len(ratio)))


def value_loss(value: Array, old: Array, target: Array, clip: float = 0.0) -> float:
    """L_V over (B,); `clip` 0 is the plain squared error."""
    plain = np.square(value - target)
    if clip <= 0.0:
        return float(plain.mean())
    near = old + np.clip(value - old, -clip, clip)
    return float(np.maximum(plain, np.square(near - target)).mean())


def value_slope(value: Array, old: Array, target: Array, clip: float = 0.0) -> Array:
    """dL_V / dV (B,). The clipped branch moves with V only while V is within the range."""
    error = value - target
    if clip > 0.0:
        move = value - old
        clipped = old + np.minimum(np.maximum(move, -clip), clip) - target
        error = np.where(np.square(error) >= np.square(clipped), error, clipped * (np.abs(move) < clip))
    return error * np.float32(2.0 / len(value))


def approximate_kl(log_ratio: Array) -> float:
    """mean((rho - 1) - log rho) over (B,): KL(pi_old || pi) from samples of pi_old, never negative."""
    return float((np.expm1(log_ratio) - log_ratio).mean())


def adapted_rate(
    rate: float, kl: float, target: float, factor: float = 1.5, low: float = 1e-5, high: float = 1e-2
) -> float:
    """Learning rate for the next epoch: down where the KL exceeds twice the target, up where it is below half of it.

    A rate that starts outside of [low, high] is never moved against what the KL says.
    """
    if kl > 2.0 * target:
        return min(rate, max(low, rate / factor))
    if kl < 0.5 * target:
        return max(rate, min(high, rate * factor))
    return rate


def explained_variance(value: Array, target: Array) -> float:
    """1 - Var(R - V) / Var(R) over all steps; 0 where the returns are all alike."""
    spread = float(np.var(target))
    return 1.0 - float(np.var(target - value)) / spread if spread > 1e-12 else 0.0
