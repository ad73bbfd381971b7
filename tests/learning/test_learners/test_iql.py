import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from sealegs_learning.learners.base import cosine_rate
from sealegs_learning.learners.iql import (
    IQL,
    advantage_weight,
    critic_loss,
    critic_slope,
    expectile_loss,
    expectile_slope,
    td_target,
    weighted_likelihood_loss,
    weighted_likelihood_slopes,
)
from sealegs_learning.learners.settings import IQLSettings
from sealegs_learning.networks import Policy, StackedPerceptron, gaussian_log_prob
from sealegs_learning.sessions.offline import make_learner
from sealegs_learning.training.config import TrainConfig
from sealegs_learning.transitions import build_transitions, standardised

T = torch.tensor


def test_expectile_loss_by_hand():
    # tau = 0.7: 0.7 * 2^2 for u = 2, 0.3 * 1^2 for u = -1, 0 for 0
    assert expectile_loss(T([2.0, -1.0, 0.0]), 0.7).item() == pytest.approx((2.8 + 0.3 + 0.0) / 3)
    assert expectile_loss(T([2.0, -1.0]), 0.5).item() == pytest.approx(0.5 * (4.0 + 1.0) / 2)


def test_the_minimiser_of_the_expectile_loss_is_the_expectile():
    # For x in {0, 1} with equal chance, the tau-expectile is tau.
    x = T([0.0, 1.0])
    grid = torch.linspace(0, 1, 1001)
    losses = torch.stack([expectile_loss(x - v, 0.7) for v in grid])
    assert grid[losses.argmin()].item() == pytest.approx(0.7, abs=2e-3)


def test_targets_and_critic_loss_by_hand():
    target = td_target(T([1.0, -1.0]), T([0.0, 0.0]), T([10.0, 0.0]), 0.9)
    assert target.tolist() == pytest.approx([10.0, -1.0])
    assert td_target(T([1.0]), T([1.0]), T([10.0]), 0.9).item() == 1.0  # nothing follows a terminal
    q = T([[9.0, -1.0], [10.0, 2.0]])
    assert critic_loss(q, target).item() == pytest.approx((1 + 0) / 2 + (0 + 9) / 2)


def test_weights_and_policy_loss_by_hand():
    weight = advantage_weight(T([0.0, 1.0, 5.0, -1.0]), 3.0, 100.0)
    assert weight.tolist() == pytest.approx([1.0, math.exp(3.0), 100.0, math.exp(-3.0)], rel=1e-6)
    assert weighted_likelihood_loss(T([2.0, 0.5]), T([-1.0, -4.0])).item() == pytest.approx(2.0)


@pytest.mark.parametrize("shape", [(6,), (3, 6)])
def test_slopes_are_autograds(shape):
    g = torch.Generator().manual_seed(0)
    u, target, weight = (torch.randn(shape, generator=g) for _ in range(3))
    q = torch.randn(2, *shape, generator=g).requires_grad_()
    mean, action = (torch.randn(*shape, 2, generator=g) for _ in range(2))
    log_std = torch.randn(*shape[:-1], 2, generator=g).requires_grad_()
    u.requires_grad_()
    mean.requires_grad_()
    (found,) = torch.autograd.grad(expectile_loss(u, 0.7).sum(), u)
    torch.testing.assert_close(expectile_slope(u, 0.7), found)
    (found,) = torch.autograd.grad(critic_loss(q, target).sum(), q)
    torch.testing.assert_close(critic_slope(q, target), found)
    log_prob = gaussian_log_prob(mean, log_std, action)
    slopes = torch.autograd.grad(weighted_likelihood_loss(weight, log_prob).sum(), (mean, log_std))
    z = (action - mean) * torch.exp(-log_std)[..., None, :]
    for ours, theirs in zip(weighted_likelihood_slopes(weight, z, log_std), slopes, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_schedule_is_a_half_cosine():
    assert [cosine_rate(2.0, done, 100) for done in (0, 25, 50, 100, 120)] == pytest.approx(
        [2.0, 1.0 + math.sqrt(0.5), 1.0, 0.0, 0.0]
    )


def test_stacked_networks_equal_separate_ones():
    stack = StackedPerceptron(3, (4, 8, 8, 2), torch.Generator().manual_seed(0))
    x = torch.randn(5, 4)
    together = stack(x)
    for k in range(3):
        h = x
        for i, (weight, bias) in enumerate(zip(stack.weights, stack.biases, strict=True)):
            h = h @ weight[k] + bias[k]
            h = h if i == 2 else h.clamp_min(0)
        torch.testing.assert_close(together[k], h)
    weight = stack.weights[1][0]
    torch.testing.assert_close(weight @ weight.T, 2.0 * torch.eye(8), atol=1e-5, rtol=0)


def plain_networks(learner: IQL) -> dict[str, nn.Module]:
    """The learner's networks as separate plain modules with the same weights."""
    nets: dict[str, nn.Module] = {"policy": copy.deepcopy(learner.policy)}
    for name, stack, k in (("value", learner.value, 0), ("q0", learner.q, 0), ("q1", learner.q, 1)):
        layers: list[nn.Module] = []
        for weight, bias in zip(stack.weights, stack.biases, strict=True):
            linear = nn.Linear(*weight.shape[1:])
            linear.weight.data = weight[k].T.detach().clone()
            linear.bias.data = bias[k, 0].detach().clone()
            layers += [linear, nn.ReLU()]
        nets[name] = nn.Sequential(*layers[:-1])
    for k in range(2):
        nets[f"target{k}"] = copy.deepcopy(nets[f"q{k}"])
    return nets


def plain_iql_step(nets, optimizers, batch, c: IQLSettings, rate: float, done: int, total: int) -> None:
    """The paper's box with a separate Adam and a separate backward for each network."""
    s, a, r, s_next, terminal = batch
    sa = torch.cat([s, a], 1)
    with torch.no_grad():
        q_min = torch.minimum(nets["target0"](sa), nets["target1"](sa))[:, 0]
        y = r + c.gamma * (1 - terminal) * nets["value"](s_next)[:, 0]
    u = q_min - nets["value"](s)[:, 0]
    losses = {"value": ((c.tau - (u < 0).float()).abs() * u**2).mean()}
    for k in range(2):
        losses[f"q{k}"] = ((y - nets[f"q{k}"](sa)[:, 0]) ** 2).mean()
    weight = torch.minimum(torch.exp(c.beta * u.detach()), T(c.advantage_cap))
    policy: Policy = nets["policy"]
    normal = torch.distributions.Normal(policy.mean_action(s), policy.log_std.clamp(-5, 2).exp())
    losses["policy"] = -(weight * normal.log_prob(a).sum(-1)).mean()
    optimizers["policy"].param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * done / total))
    for name, loss in losses.items():
        optimizers[name].zero_grad()
        loss.backward()
    for optimizer in optimizers.values():
        optimizer.step()
    for k in range(2):
        for target, source in zip(nets[f"target{k}"].parameters(), nets[f"q{k}"].parameters(), strict=True):
            target.data.mul_(1 - c.polyak).add_(source.data, alpha=c.polyak)


def test_updates_equal_a_plain_implementation(point_world, goal_reward):
    transitions = build_transitions(point_world, standardised(goal_reward(point_world.state)))
    config = TrainConfig(point_world.path, point_world.path, hidden=(32, 32), updates=50, learning_rate=1e-3)
    learner = make_learner(config, point_world, transitions, "")
    assert isinstance(learner, IQL)
    nets = plain_networks(learner)
    optimizers = {
        name: torch.optim.Adam(net.parameters(), lr=1e-3) for name, net in nets.items() if "target" not in name
    }
    generator = torch.Generator().manual_seed(5)
    for done in range(20):
        batch = transitions.sample(generator, 64)
        batch = batch._replace(terminal=(torch.rand(64, generator=generator) < 0.2).float())
        learner.update(batch)
        plain_iql_step(nets, optimizers, batch, learner.settings, 1e-3, done, 50)
    x = transitions.packed[:100, :2]
    sa = transitions.packed[:100, :4]
    torch.testing.assert_close(learner.value(x)[0], nets["value"](x), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(learner.policy.mean_action(x), nets["policy"].mean_action(x), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(learner.policy.log_std, nets["policy"].log_std, atol=1e-5, rtol=1e-3)
    for k in range(2):
        torch.testing.assert_close(learner.q(sa)[k], nets[f"q{k}"](sa), atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(learner.target_q(sa)[k], nets[f"target{k}"](sa), atol=1e-4, rtol=1e-3)


def test_the_target_network_is_never_trained(point_world, goal_reward):
    transitions = build_transitions(point_world, goal_reward(point_world.state))
    config = TrainConfig(point_world.path, point_world.path, hidden=(16, 16), updates=5, iql=IQLSettings(polyak=1e-9))
    learner = make_learner(config, point_world, transitions, "")
    before = copy.deepcopy(learner.target_q.state_dict())
    for _ in range(5):
        learner.update(transitions.sample(torch.Generator().manual_seed(0), 32))
    for name, value in learner.target_q.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=1e-7, rtol=1e-6)
    trained = {id(p) for group in learner.optimizer.param_groups for p in group["params"]}
    assert not trained & {id(p) for p in learner.target_q.parameters()}


def test_iql_finds_the_goal_in_random_data_and_constant_reward_does_not(point_world, goal_reward, final_distance):
    distances = {}
    for name, reward in (("true", goal_reward(point_world.state)), ("constant", np.zeros(1200, np.float32))):
        transitions = build_transitions(point_world, standardised(reward))
        config = TrainConfig(
            point_world.path,
            point_world.path,
            hidden=(32, 32),
            updates=800,
            learning_rate=2e-3,
            iql=IQLSettings(gamma=0.9),
        )
        learner = make_learner(config, point_world, transitions, "")
        generator = torch.Generator().manual_seed(1)
        for _ in range(config.updates):
            learner.update(transitions.sample(generator, 128))
        distances[name] = final_distance(learner.policy)
    # From a mean start distance of 0.9, forty steps of at most 0.1 reach any point of the square.
    assert distances["true"] < 0.2
    assert distances["constant"] > 0.4
