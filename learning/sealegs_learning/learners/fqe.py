"""Fitted Q evaluation (Le et al., arXiv 1903.08738): the value of a policy from logs that another policy made.

L   = sum_k E[ w_k (r + gamma (1 - terminal) Qt_k(s', pi(s')) - Q_k(s, a))^2 ]
Qt <- (1 - polyak) Qt + polyak Q

Member k weighs the episodes by how often a bootstrap resample of them holds each (Hao et al., arXiv 2102.03607), so the
spread of the members is the spread that other logs of this size would give. P policies times K members train as one
stack, on the same batches, weights and first networks: differences between policies are paired.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sealegs_learning.learners.base import cosine_rate
from sealegs_learning.learners.flat import flatten_parameters, polyak_average_
from sealegs_learning.learners.settings import FQESettings
from sealegs_learning.networks import StackedPerceptron


def fqe_target(reward: Tensor, terminal: Tensor, next_q: Tensor, gamma: float) -> Tensor:
    """r + gamma (1 - terminal) Q(s', pi(s')): (B,) or (K, B), (B,) and (..., B) -> (..., B).

    A time limit is not a terminal.
    """
    return reward + gamma * (1.0 - terminal) * next_q


def fqe_loss(q: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """sum over the members of mean(w (target - q)^2); all (..., B)."""
    return (weight * (target - q).square()).mean(-1).sum()


def value_bounds(reward: Tensor, gamma: float) -> tuple[float, float]:
    """What no discounted sum of such rewards (M,) can leave: [min(r, 0), max(r, 0)] / (1 - gamma)."""
    low, high = float(reward.min()), float(reward.max())
    return min(low, 0.0) / (1.0 - gamma), max(high, 0.0) / (1.0 - gamma)


class FQE:
    """Q_{p,k}(s, a) of P policies and K members. Observations are normalised, actions in [-1, 1]."""

    def __init__(
        self, observations: int, actions: int, policies: int, settings: FQESettings, generator: torch.Generator
    ) -> None:
        sizes = (observations + actions, *settings.hidden, 1)
        self.settings, self.policies, self.done = settings, policies, 0
        self._width = observations, actions
        first = StackedPerceptron(settings.members, sizes, generator)
        self.q = StackedPerceptron(policies * settings.members, sizes, torch.Generator())
        self.target = StackedPerceptron(policies * settings.members, sizes, torch.Generator())
        with torch.no_grad():
            for own, shared in zip(self.q.parameters(), first.parameters(), strict=True):
                own.copy_(shared.repeat(policies, 1, 1))
        self.target.load_state_dict(self.q.state_dict())
        self.target.requires_grad_(False)
        self._flat = flatten_parameters(self.q.parameters())
        self._target_flat = flatten_parameters(self.target.parameters()).detach()
        self.optimizer = torch.optim.Adam([self._flat], lr=settings.learning_rate, fused=True)

    def value(self, observation: Tensor, action: Tensor) -> Tensor:
        """Q(s, a), (P, K, B), at observations (B, D) and each policy's actions (P, B, J)."""
        with torch.no_grad():
            return self._of(self.q, observation, action)

    def value_each(self, observation: Tensor, action: Tensor) -> Tensor:
        """Q(s, a), (P, K, B), where every network has observations (P, K, B, D) and actions (P, K, B, J) of its own."""
        with torch.no_grad():
            q: Tensor = self.q(torch.cat([observation, action], dim=-1).flatten(0, 1))
        return q.view(observation.shape[:3])

    def part(self, sources: Sequence[int]) -> FQE:
        """The networks of the policies `sources` alone."""
        other = FQE(*self._width, len(sources), self.settings, torch.Generator())
        other.start_from(self, sources)
        return other

    def update(
        self,
        observation: Tensor,
        action: Tensor,
        reward: Tensor,
        terminal: Tensor,
        next_observation: Tensor,
        next_action: Tensor,
        weight: Tensor,
        bounds: tuple[float, float],
    ) -> Tensor:
        """One gradient step; the loss. `next_action` (P, B, J) are the policies' at s', `weight` (K, B).

        `reward` (B,), or (K, B) where every member has a reward of its own.
        """
        c = self.settings
        with torch.no_grad():
            next_q = self._of(self.target, next_observation, next_action)
            target = fqe_target(reward, terminal, next_q, c.gamma).clamp(*bounds)
        q = self.q(torch.cat([observation, action], dim=1)).view_as(target)
        loss = fqe_loss(q, target, weight)
        self.optimizer.param_groups[0]["lr"] = cosine_rate(c.learning_rate, self.done, c.updates)
        self._flat.grad.zero_()  # type: ignore[union-attr]
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        polyak_average_(self._target_flat, self._flat.detach(), c.polyak)
        self.done += 1
        return loss.detach()

    def start_from(self, other: FQE, sources: Sequence[int]) -> None:
        """Policy p goes on from the networks and targets of policy `sources[p]` of `other`, with a fresh optimiser."""
        k = self.settings.members
        picked = torch.cat([torch.arange(k) + k * source for source in sources])
        with torch.no_grad():
            for own, theirs in ((self.q, other.q), (self.target, other.target)):
                for mine, yours in zip(own.parameters(), theirs.parameters(), strict=True):
                    mine.copy_(yours[picked])

    def _of(self, stack: StackedPerceptron, observation: Tensor, action: Tensor) -> Tensor:
        p, k, b = self.policies, self.settings.members, len(observation)
        pairs = torch.cat([observation.expand(p, -1, -1), action], dim=2)
        each = pairs[:, None].expand(p, k, b, -1).reshape(p * k, b, -1)
        q: Tensor = stack(each)
        return q.view(p, k, b)
