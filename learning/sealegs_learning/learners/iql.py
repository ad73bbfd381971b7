"""Implicit Q-learning (Kostrikov et al., arXiv 2110.06169).

L_V  = E[ |tau - 1(u<0)| u^2 ],           u = min_i Qt_i(s,a) - V(s)
L_Q  = sum_i E[ (r + gamma (1 - terminal) V(s') - Q_i(s,a))^2 ]
L_pi = -E[ min(exp(beta u), cap) log pi(a|s) ]
Qt  <- (1 - polyak) Qt + polyak Q

Every equation takes a leading axis of K members as well, with its settings as (K, 1) tensors: see `iql_many`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from sealegs_learning.learners.base import Learner
from sealegs_learning.learners.flat import flatten_parameters, polyak_average_
from sealegs_learning.learners.settings import IQLSettings
from sealegs_learning.learners.stack import run_perceptron, stacked_perceptron
from sealegs_learning.networks import LOG_STD_MAX, LOG_STD_MIN, GaussianActor, StackedPerceptron, gaussian_log_prob
from sealegs_learning.transitions import Batch

Number = float | Tensor


def expectile_loss(u: Tensor, tau: Number) -> Tensor:
    """mean(|tau - 1(u<0)| u^2) over the last axis of u (..., B)."""
    return ((tau - (u < 0).to(u.dtype)).abs() * u.square()).mean(-1)


def td_target(reward: Tensor, terminal: Tensor, next_value: Tensor, gamma: Number) -> Tensor:
    """r + gamma (1 - terminal) V(s'), (..., B). A time limit is not a terminal."""
    return reward + gamma * (1.0 - terminal) * next_value


def critic_loss(q: Tensor, target: Tensor) -> Tensor:
    """sum_i mean((target - Q_i)^2) over the twins q (2, ..., B) and target (..., B)."""
    return (target - q).square().mean(-1).sum(0)


def advantage_weight(advantage: Tensor, beta: Number, cap: Number) -> Tensor:
    """min(exp(beta A), cap), (..., B)."""
    return torch.clamp(torch.exp(beta * advantage), max=cap)


def weighted_likelihood_loss(weight: Tensor, log_prob: Tensor) -> Tensor:
    """-mean(w log pi(a|s)) over the last axis of (..., B) and (..., B)."""
    return -(weight * log_prob).mean(-1)


class IQLValues(Protocol):
    """The settings in the equations: numbers, or one a member."""

    @property
    def gamma(self) -> Number:
        """Discount."""
        ...

    @property
    def tau(self) -> Number:
        """Expectile."""
        ...

    @property
    def beta(self) -> Number:
        """Inverse temperature."""
        ...

    @property
    def advantage_cap(self) -> Number:
        """Bound of a weight."""
        ...


class IQLNetworks(NamedTuple):
    """The networks as functions: V(s) (..., B), Q(s,a) and Qt(s,a) (2, ..., B), log pi(a|s) (..., B)."""

    value: Callable[[Tensor], Tensor]
    q: Callable[[Tensor], Tensor]
    target_q: Callable[[Tensor], Tensor]
    log_prob: Callable[[Tensor, Tensor], Tensor]


def iql_losses(batch: Batch, networks: IQLNetworks, c: IQLValues) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of the three losses, and metrics (...,). No trained weight is in two of them, so one backward serves
    all three.
    """
    s, a, r, s_next, terminal = batch
    sa = torch.cat([s, a], dim=-1)
    with torch.no_grad():
        q_target = networks.target_q(sa).amin(0)
        next_value = networks.value(s_next)
    u = q_target - networks.value(s)
    weight = advantage_weight(u.detach(), c.beta, c.advantage_cap)

    value_loss = expectile_loss(u, c.tau)
    q_loss = critic_loss(networks.q(sa), td_target(r, terminal, next_value, c.gamma))
    policy_loss = weighted_likelihood_loss(weight, networks.log_prob(s, a))
    metrics = {
        "value_loss": value_loss.detach(),
        "q_loss": q_loss.detach(),
        "policy_loss": policy_loss.detach(),
        "q": q_target.mean(-1),
        "advantage_weight": weight.mean(-1),
    }
    return (value_loss + q_loss + policy_loss).sum(), metrics


class IQL(Learner):
    """The paper's algorithm. Twin Q networks run as one stack; shapes as in `Batch`."""

    def __init__(
        self,
        policy: GaussianActor,
        settings: IQLSettings,
        learning_rate: float,
        updates: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__(learning_rate, updates)
        self.settings = settings
        observations, actions, hidden = policy.observations, policy.actions, policy.hidden
        device = policy.log_std.device
        self.policy = policy
        self.value = StackedPerceptron(1, (observations, *hidden, 1), generator).to(device)
        self.q = StackedPerceptron(2, (observations + actions, *hidden, 1), generator).to(device)
        self.target_q = StackedPerceptron(2, (observations + actions, *hidden, 1), torch.Generator()).to(device)
        self.target_q.load_state_dict(self.q.state_dict())
        self.target_q.requires_grad_(False)
        self.networks = nn.ModuleDict({"policy": policy, "value": self.value, "q": self.q, "target_q": self.target_q})
        self.optimizer = self._make_optimizer()
        size = sum(p.numel() for p in self.q.parameters())
        self._q_weights = self._flat[1].detach()[-size:]  # the second group is V, then Q
        self._target_weights = flatten_parameters(self.target_q.parameters()).detach()
        self._functions = IQLNetworks(
            lambda s: self._run(self.value, s)[0],
            lambda sa: self._run(self.q, sa),
            lambda sa: self._run(self.target_q, sa),
            self._log_prob,
        )

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One step on V, Q and pi."""
        loss, metrics = iql_losses(batch, self._functions, self.settings)
        self._descend(loss)
        polyak_average_(self._target_weights, self._q_weights, self.settings.polyak)
        return metrics

    def _run(self, stack: StackedPerceptron, x: Tensor) -> Tensor:
        return stacked_perceptron(x, [*stack.weights], [*stack.biases], self.settings.precision).squeeze(-1)

    def _log_prob(self, s: Tensor, a: Tensor) -> Tensor:
        mean = run_perceptron(self.policy.actor, s, self.settings.precision)
        mean = torch.tanh(mean) if self.policy.bound == "tanh" else mean
        return gaussian_log_prob(mean, self.policy.log_std.clamp(LOG_STD_MIN, LOG_STD_MAX), a)
