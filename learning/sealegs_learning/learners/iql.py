"""Implicit Q-learning (Kostrikov et al., arXiv 2110.06169).

L_V  = E[ |tau - 1(u<0)| u^2 ],           u = min_i Qt_i(s,a) - V(s)
L_Q  = sum_i E[ (r + gamma (1 - terminal) V(s') - Q_i(s,a))^2 ]
L_pi = -E[ min(exp(beta u), cap) log pi(a|s) ]
Qt  <- (1 - polyak) Qt + polyak Q

Every equation takes a leading axis of K members as well, with its settings as (K, 1) tensors: see `iql_many`. Slopes
are derivatives by hand, checked against autograd in the tests; `stack` carries them through the networks.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from sealegs_learning.learners.backprop import gradient_of
from sealegs_learning.learners.base import Learner
from sealegs_learning.learners.flat import flatten_parameters, polyak_average_
from sealegs_learning.learners.settings import IQLSettings
from sealegs_learning.learners.stack import Perceptrons, single, stacked
from sealegs_learning.networks import LOG_STD_MAX, LOG_STD_MIN, GaussianActor, StackedPerceptron, standard_log_prob
from sealegs_learning.transitions import Batch

Number = float | Tensor


def expectile_loss(u: Tensor, tau: Number) -> Tensor:
    """mean(|tau - 1(u<0)| u^2) over the last axis of u (..., B)."""
    return ((tau - (u < 0).to(u.dtype)).abs() * u.square()).mean(-1)


def expectile_slope(u: Tensor, tau: Number) -> Tensor:
    """d expectile_loss / d u, (..., B)."""
    return (tau - (u < 0).to(u.dtype)).abs() * u * (2.0 / u.shape[-1])


def td_target(reward: Tensor, terminal: Tensor, next_value: Tensor, gamma: Number) -> Tensor:
    """r + gamma (1 - terminal) V(s'), (..., B). A time limit is not a terminal."""
    return reward + gamma * (1.0 - terminal) * next_value


def critic_loss(q: Tensor, target: Tensor) -> Tensor:
    """sum_i mean((target - Q_i)^2) over the twins q (2, ..., B) and target (..., B)."""
    return (target - q).square().mean(-1).sum(0)


def critic_slope(q: Tensor, target: Tensor) -> Tensor:
    """d critic_loss / d q, (2, ..., B)."""
    return (q - target) * (2.0 / q.shape[-1])


def advantage_weight(advantage: Tensor, beta: Number, cap: Number) -> Tensor:
    """min(exp(beta A), cap), (..., B)."""
    return torch.clamp(torch.exp(beta * advantage), max=cap)


def weighted_likelihood_loss(weight: Tensor, log_prob: Tensor) -> Tensor:
    """-mean(w log pi(a|s)) over the last axis of (..., B) and (..., B)."""
    return -(weight * log_prob).mean(-1)


def weighted_likelihood_slopes(weight: Tensor, z: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
    """d weighted_likelihood_loss / d mean (..., B, J) and / d log_std (..., J) of a Gaussian, z = (a - mean) / std.

    d log pi / d mean = z / std,  d log pi / d log_std = z^2 - 1
    """
    scaled = weight[..., None] * (-1.0 / weight.shape[-1])
    return scaled * z * torch.exp(-log_std)[..., None, :], (scaled * (z.square() - 1.0)).sum(-2)


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


class IQLNetworks:
    """V, Q, Qt and pi of one run, or of K: values are (B,) or (K, B), of the twins (2, B) or (2, K, B)."""

    def __init__(
        self,
        value: Perceptrons,
        q: Perceptrons,
        target_q: Perceptrons,
        actor: Perceptrons,
        log_std: nn.Parameter,
        tanh: bool,
        members: int = 0,
    ) -> None:
        self._value, self._q, self._target_q, self._actor = value, q, target_q, actor
        self._log_std, self._log_std_gradient = log_std.detach(), gradient_of(log_std)
        self._tanh, self._members = tanh, members

    def value(self, s: Tensor) -> Tensor:
        """V(s)."""
        return self._one_each(self._value.forward(s).squeeze(-1))

    def descend_value(self, slope: Tensor) -> None:
        """Gradients of V for dL/dV at the last `value`."""
        self._value.backward(slope.view(max(self._members, 1), -1, 1))

    def target_q(self, sa: Tensor) -> Tensor:
        """The twins' Qt(s, a)."""
        return self._twins(self._target_q, sa)

    def q(self, sa: Tensor) -> Tensor:
        """The twins' Q(s, a)."""
        return self._twins(self._q, sa)

    def descend_q(self, slope: Tensor) -> None:
        """Gradients of Q for dL/dQ at the last `q`."""
        member_first = slope.transpose(0, 1) if self._members else slope
        self._q.backward(member_first.reshape(2 * max(self._members, 1), -1, 1))

    def deviations(self, s: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        """z = (a - mean) / std, (..., B, J), and log std (..., J)."""
        self._mean = self._one_each(self._actor.forward(s))
        if self._tanh:
            self._mean = torch.tanh(self._mean)
        log_std = self._log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        return (a - self._mean) * torch.exp(-log_std)[..., None, :], log_std

    def descend_policy(self, of_mean: Tensor, of_log_std: Tensor) -> None:
        """Gradients of pi at the last `deviations`."""
        slope = of_mean * (1.0 - self._mean.square()) if self._tanh else of_mean
        self._actor.backward(slope if self._members else slope[None])
        within = (self._log_std >= LOG_STD_MIN) & (self._log_std <= LOG_STD_MAX)
        torch.mul(of_log_std, within, out=self._log_std_gradient)

    def _one_each(self, y: Tensor) -> Tensor:
        return y if self._members else y[0]

    def _twins(self, stack: Perceptrons, sa: Tensor) -> Tensor:
        """Twin i of member k is network 2k + i of the stack."""
        if not self._members:
            return stack.forward(sa).squeeze(-1)
        return stack.forward(sa.repeat_interleave(2, dim=0)).view(self._members, 2, -1).transpose(0, 1)


def iql_gradients(batch: Batch, networks: IQLNetworks, c: IQLValues, measured: bool) -> dict[str, Tensor]:
    """The gradients of the three losses, in place; no trained weight is in two. If `measured`, metrics (...,)."""
    s, a, r, s_next, terminal = batch
    sa = torch.cat([s, a], dim=-1)
    q_target = networks.target_q(sa).amin(0)
    y = td_target(r, terminal, networks.value(s_next), c.gamma)
    u = q_target - networks.value(s)
    networks.descend_value(-expectile_slope(u, c.tau))

    q = networks.q(sa)
    networks.descend_q(critic_slope(q, y))

    weight = advantage_weight(u, c.beta, c.advantage_cap)
    z, log_std = networks.deviations(s, a)
    networks.descend_policy(*weighted_likelihood_slopes(weight, z, log_std))
    if not measured:
        return {}
    return {
        "value_loss": expectile_loss(u, c.tau),
        "q_loss": critic_loss(q, y),
        "policy_loss": weighted_likelihood_loss(weight, standard_log_prob(z, log_std)),
        "q": q_target.mean(-1),
        "advantage_weight": weight.mean(-1),
    }


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
        precision = settings.precision
        self._running = IQLNetworks(
            stacked(self.value, precision),
            stacked(self.q, precision),
            stacked(self.target_q, precision, trained=False),
            single(policy.actor, precision),
            policy.log_std,
            policy.bound == "tanh",
        )

    def step(self, batch: Batch, measured: bool = True) -> dict[str, Tensor]:
        """One step on V, Q and pi."""
        metrics = iql_gradients(batch, self._running, self.settings, measured)
        self.optimizer.step()
        polyak_average_(self._target_weights, self._q_weights, self.settings.polyak)
        return metrics
