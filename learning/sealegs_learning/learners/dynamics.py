"""What actions do, learned from logs: K one-step models of a robot and its objects, by least squares.

    d_k(s, a) ~ s' - s,    o_k(s') ~ (r, terminal)
    L = sum_k E[ w_k (mean_i (target_i - d_ki)^2 + mean_i (target_i - o_ki)^2) ]

Every element of a target is standardised, so that each counts alike. Member k weighs the episodes by how often a
bootstrap resample of them holds each, as in FQE: the members' spread is that of models from other logs of this size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sealegs_learning.learners.base import cosine_rate
from sealegs_learning.learners.flat import flatten_parameters
from sealegs_learning.learners.settings import ModelSettings
from sealegs_learning.networks import Normalizer, StackedPerceptron


def model_loss(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """sum over the members of mean(w (target - predicted)^2): (K, B, O), (B, O), (K, B)."""
    return (weight[..., None] * (target - predicted).square()).mean((1, 2)).sum()


class Dynamics:
    """K models of logged transitions: states (M, D) and (M, D) normalised, actions (M, J), outcomes (M, O)."""

    def __init__(
        self,
        now: Tensor,
        action: Tensor,
        following: Tensor,
        outcome: Tensor,
        members: int,
        settings: ModelSettings,
        generator: torch.Generator,
    ) -> None:
        change = following - now
        self.settings, self.done = settings, 0
        self.change_units, self.outcome_units = Normalizer.fit(change), Normalizer.fit(outcome)
        self._inputs, self._following = torch.cat([now, action], dim=1), following
        self._change, self._outcome = self.change_units(change), self.outcome_units(outcome)
        self.states, self.outcomes = (torch.aminmax(x, dim=0) for x in (following, outcome))
        sizes = (self._inputs.shape[1], *settings.hidden, now.shape[1])
        self.change = StackedPerceptron(members, sizes, generator, layer_norm=True)
        self.outcome = StackedPerceptron(members, (now.shape[1], 64, 64, outcome.shape[1]), generator)
        self._flat = flatten_parameters([*self.change.parameters(), *self.outcome.parameters()])
        self.optimizer = torch.optim.Adam([self._flat], lr=settings.learning_rate, fused=True)

    def update(self, rows: Tensor, weight: Tensor) -> Tensor:
        """One gradient step on the transitions `rows` (B,), which the members weigh by `weight` (K, B); the loss."""
        c = self.settings
        loss = model_loss(self.change(self._inputs[rows]), self._change[rows], weight)
        loss = loss + model_loss(self.outcome(self._following[rows]), self._outcome[rows], weight)
        self.optimizer.param_groups[0]["lr"] = cosine_rate(c.learning_rate, self.done, c.updates)
        self._flat.grad.zero_()  # type: ignore[union-attr]
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.done += 1
        return loss.detach()

    def step(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """(K, B, D) and (K, B, J) -> next states (K, B, D) and outcomes (K, B, O).

        Both stay, element by element, within the range of the logs: nothing is known beyond it.
        """
        with torch.no_grad():
            change = self.change_units.inverse(self.change(torch.cat([state, action], dim=-1)))
            following = (state + change).clamp(*self.states)
            outcome = self.outcome_units.inverse(self.outcome(following)).clamp(*self.outcomes)
        return following, outcome
