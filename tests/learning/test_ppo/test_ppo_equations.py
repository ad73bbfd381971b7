"""PPO's equations against hand arithmetic, finite differences and autograd."""

import math

import numpy as np
import pytest
import torch

from sealegs_learning.learners.ppo_equations import (
    adapted_rate,
    approximate_kl,
    clipped_surrogate,
    discounted_sums,
    entropy,
    explained_variance,
    gae,
    log_prob_of,
    surrogate_slope,
    value_loss,
    value_slope,
)


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)[:, None]


def test_gae_by_hand() -> None:
    # gamma 0.5, lambda 0.5; V = 1, 2, 4 and V(s_3) = 8.
    # delta_2 = 3 + 4 - 4 = 3;  delta_1 = 2 + 2 - 2 = 2;  delta_0 = 1 + 1 - 1 = 1
    # A_2 = 3;  A_1 = 2 + 3/4 = 2.75;  A_0 = 1 + 2.75/4 = 1.6875
    no = np.zeros((3, 1), dtype=bool)
    found = gae(column(1, 2, 3), column(1, 2, 4), column(2, 4, 8), no, no, 0.5, 0.5)
    assert found[:, 0] == pytest.approx([1.6875, 2.75, 3.0])


def test_gae_bootstraps_a_time_limit_and_not_a_terminal() -> None:
    # The episode ends at step 1 in both; its last observation is worth 10, the next episode's first is worth 4.
    reward, value, ended = column(1, 1, 1), column(0, 0, 4), np.array([[False], [True], [False]])
    next_value = column(0, 10, 8)
    terminal = gae(reward, value, next_value, ended, ended, 0.5, 0.5)
    # delta = 1, 1, 1 + 4 - 4 = 1;  A_0 = 1 + 1/4
    assert terminal[:, 0] == pytest.approx([1.25, 1.0, 1.0])
    limit = gae(reward, value, next_value, np.zeros_like(ended), ended, 0.5, 0.5)
    # delta_1 = 1 + 5 = 6;  A_0 = 1 + 6/4;  nothing flows back from step 2
    assert limit[:, 0] == pytest.approx([2.5, 6.0, 1.0])


def test_gae_with_lambda_one_is_the_return_minus_the_value() -> None:
    rng = np.random.default_rng(0)
    reward, value = rng.standard_normal((2, 6, 3))
    last = rng.standard_normal(3)
    next_value, no = np.concatenate([value[1:], last[None]]), np.zeros((6, 3), dtype=bool)
    returns = [sum(0.9 ** (k - t) * reward[k] for k in range(t, 6)) + 0.9 ** (6 - t) * last for t in range(6)]
    assert gae(reward, value, next_value, no, no, 0.9, 1.0) == pytest.approx(np.array(returns) - value)


def test_discounted_sums_by_hand() -> None:
    ended = np.array([[False], [True], [False]])
    sums, carried = discounted_sums(column(1, 2, 3), ended, np.array([4.0]), 0.5)
    assert sums[:, 0] == pytest.approx([3.0, 3.5, 3.0])  # 0.5*4+1, 0.5*3+2, and afresh
    assert carried == pytest.approx([3.0])


def test_clipped_surrogate_by_hand() -> None:
    ratio, advantage = np.array([1.5, 0.5, 1.5, 0.5]), np.array([1.0, 1.0, -1.0, -1.0])
    # min(1.5, 1.2), min(0.5, 0.8), min(-1.5, -1.2), min(-0.5, -0.8)
    assert clipped_surrogate(ratio, advantage, 0.2) == pytest.approx(-(1.2 + 0.5 - 1.5 - 0.8) / 4)
    assert surrogate_slope(ratio, advantage, 0.2) == pytest.approx([0.0, -0.125, 0.375, 0.0])


def test_value_loss_by_hand() -> None:
    value, old, target = np.array([2.0, 1.0]), np.array([1.0, 1.0]), np.array([3.0, 0.0])
    assert value_loss(value, old, target) == pytest.approx((1.0 + 1.0) / 2)
    # clipped: 1 + 0.2 = 1.2, (1.2 - 3)^2 = 3.24 > 1
    assert value_loss(value, old, target, 0.2) == pytest.approx((3.24 + 1.0) / 2)


@pytest.mark.parametrize("clip", [0.0, 0.3])
def test_slopes_are_the_derivatives_that_autograd_finds(clip: float) -> None:
    rng = np.random.default_rng(3)
    old, target, log_ratio, advantage = rng.standard_normal((4, 64))
    value = old + rng.standard_normal(64) * 0.5
    v = torch.tensor(value, requires_grad=True)
    plain = (v - torch.tensor(target)).square()
    if clip:
        near = torch.tensor(old) + (v - torch.tensor(old)).clamp(-clip, clip)
        plain = torch.maximum(plain, (near - torch.tensor(target)).square())
    plain.mean().backward()
    assert value_loss(value, old, target, clip) == pytest.approx(plain.mean().item())
    assert value_slope(value, old, target, clip) == pytest.approx(v.grad.numpy())
    lp, a = torch.tensor(log_ratio, requires_grad=True), torch.tensor(advantage)
    ratio = lp.exp()
    loss = -torch.minimum(ratio * a, ratio.clamp(0.8, 1.2) * a).mean()
    loss.backward()
    assert clipped_surrogate(np.exp(log_ratio), advantage, 0.2) == pytest.approx(loss.item())
    assert surrogate_slope(np.exp(log_ratio), advantage, 0.2) == pytest.approx(lp.grad.numpy())


def test_gaussian_by_hand_and_by_torch() -> None:
    log_std = np.log(np.array([0.5, 2.0]))
    z = np.array([[1.0, 2.0], [0.0, 0.0]])
    expected = [-2.5 - math.log(2.0 * math.pi), -math.log(2.0 * math.pi)]  # log 0.5 + log 2 = 0
    assert log_prob_of(z, log_std) == pytest.approx(expected)
    torch_entropy = torch.distributions.Normal(0.0, torch.tensor([0.5, 2.0])).entropy().sum()
    assert entropy(log_std) == pytest.approx(float(torch_entropy))


def test_kl_and_learning_rate() -> None:
    assert approximate_kl(np.log([2.0, 1.0])) == pytest.approx((1.0 - math.log(2.0)) / 2)
    assert adapted_rate(3e-4, 0.021, 0.01) == pytest.approx(2e-4)
    assert adapted_rate(3e-4, 0.004, 0.01) == pytest.approx(4.5e-4)
    assert adapted_rate(3e-4, 0.01, 0.01) == 3e-4
    assert adapted_rate(1.2e-5, 1.0, 0.01) == 1e-5
    assert adapted_rate(9e-3, 0.0, 0.01) == 1e-2
    # Rates that begin outside of the bounds, 1e-5 and 1e-2, are not moved the wrong way.
    assert adapted_rate(5e-6, 0.1, 0.01) == 5e-6
    assert adapted_rate(5e-6, 0.0, 0.01) == pytest.approx(7.5e-6)
    assert adapted_rate(0.02, 0.0, 0.01) == 0.02
    assert adapted_rate(0.03, 0.1, 0.01) == pytest.approx(0.02)


def test_explained_variance() -> None:
    target = np.array([1.0, 2.0, 3.0])
    assert explained_variance(target, target) == 1.0
    assert explained_variance(np.zeros(3), target) == pytest.approx(0.0)
    assert explained_variance(target, np.ones(3)) == 0.0
