"""Implicit Q-learning (Kostrikov et al., arXiv 2110.06169).

L_V  = E[ |tau - 1(u<0)| u^2 ],           u = min_i Qt_i(s,a) - V(s)
L_Q  = sum_i E[ (r + gamma V(s') - Q_i(s,a))^2 ]
L_pi = -E[ min(exp(beta u), cap) log pi(a|s) ]
Qt  <- (1 - polyak) Qt + polyak Q
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sealegs_learning.learners.base import Learner
from sealegs_learning.learners.flat import flatten_parameters, polyak_average_
from sealegs_learning.learners.settings import IQLSettings
from sealegs_learning.networks import GaussianActor, StackedPerceptron, perceptron
from sealegs_learning.transitions import Batch


def expectile_loss(u: Tensor, tau: float) -> Tensor:
    """mean(|tau - 1(u<0)| u^2) over u (B,)."""
    return (torch.where(u < 0, 1.0 - tau, tau) * u.square()).mean()


def td_target(reward: Tensor, next_value: Tensor, gamma: float) -> Tensor:
    """r + gamma V(s'), (B,). No mask: logged time limits are not terminals."""
    return reward + gamma * next_value


def critic_loss(q: Tensor, target: Tensor) -> Tensor:
    """sum_i mean((target - Q_i)^2) over the twins q (2, B) and target (B,)."""
    return (target - q).square().mean(-1).sum()


def advantage_weight(advantage: Tensor, beta: float, cap: float) -> Tensor:
    """min(exp(beta A), cap), (B,)."""
    return torch.exp(beta * advantage).clamp_max(cap)


def weighted_likelihood_loss(weight: Tensor, log_prob: Tensor) -> Tensor:
    """-mean(w log pi(a|s)) over (B,) and (B,)."""
    return -(weight * log_prob).mean()


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
        self.policy = policy
        self.value = perceptron((observations, *hidden, 1), generator)
        self.q = StackedPerceptron(2, (observations + actions, *hidden, 1), generator)
        self.target_q = StackedPerceptron(2, (observations + actions, *hidden, 1), generator)
        self.target_q.load_state_dict(self.q.state_dict())
        self.target_q.requires_grad_(False)
        self.networks = nn.ModuleDict({"policy": policy, "value": self.value, "q": self.q, "target_q": self.target_q})
        self.optimizer = self._make_optimizer()
        size = sum(p.numel() for p in self.q.parameters())
        self._q_weights = self._flat[1].detach()[-size:]  # the second group is V, then Q
        self._target_weights = flatten_parameters(self.target_q.parameters()).detach()

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One step on V, Q and pi. They share no trained weights, so one backward of the sum serves all three."""
        s, a, r, s_next = batch
        c = self.settings
        sa = torch.cat([s, a], dim=1)
        with torch.no_grad():
            q_target = self.target_q(sa).squeeze(-1).amin(0)
            next_value = self.value(s_next).squeeze(-1)
        u = q_target - self.value(s).squeeze(-1)
        weight = advantage_weight(u.detach(), c.beta, c.advantage_cap)

        value_loss = expectile_loss(u, c.tau)
        q_loss = critic_loss(self.q(sa).squeeze(-1), td_target(r, next_value, c.gamma))
        policy_loss = weighted_likelihood_loss(weight, self.policy.log_prob(s, a))
        self._descend(value_loss + q_loss + policy_loss)
        polyak_average_(self._target_weights, self._q_weights, c.polyak)
        return {
            "value_loss": value_loss.detach(),
            "q_loss": q_loss.detach(),
            "policy_loss": policy_loss.detach(),
            "q": q_target.mean(),
            "advantage_weight": weight.mean(),
        }
