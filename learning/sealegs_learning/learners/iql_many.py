"""K runs of IQL, over seeds or settings, as one batched model: what a GPU is too wide for one run to fill.

Member k has the first weights, batches and settings of the run by itself, and no product mixes members, so it becomes
that run's policy up to the order of float sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sealegs_contract.errors import LearningError
from sealegs_learning.learners.base import Learner
from sealegs_learning.learners.flat import flatten_parameters, polyak_average_
from sealegs_learning.learners.iql import IQL, IQLNetworks, iql_losses
from sealegs_learning.learners.settings import IQLSettings
from sealegs_learning.learners.stack import stacked_perceptron
from sealegs_learning.networks import LOG_STD_MAX, LOG_STD_MIN, GaussianActor, StackedPerceptron, gaussian_log_prob
from sealegs_learning.transitions import Batch


@dataclass(frozen=True)
class MemberSettings:
    """What may differ between members, each (K, 1)."""

    gamma: Tensor
    tau: Tensor
    beta: Tensor
    advantage_cap: Tensor

    @classmethod
    def of(cls, settings: Sequence[IQLSettings], device: torch.device) -> MemberSettings:
        """One row a member."""
        return cls(
            *(
                torch.tensor([[getattr(c, name)] for c in settings], device=device)
                for name in ("gamma", "tau", "beta", "advantage_cap")
            )
        )


class StackedActor(nn.Module):
    """The Gaussians of K policies of one shape."""

    def __init__(self, policies: Sequence[GaussianActor]) -> None:
        super().__init__()
        layers = [_linear(policy) for policy in policies]
        self.mean = _empty(len(policies), (policies[0].observations, *policies[0].hidden, policies[0].actions))
        with torch.no_grad():
            for i, (weight, bias) in enumerate(zip(self.mean.weights, self.mean.biases, strict=True)):
                weight.copy_(torch.stack([own[i].weight.t() for own in layers]))
                bias.copy_(torch.stack([own[i].bias[None] for own in layers]))
        self.log_std = nn.Parameter(torch.stack([policy.log_std.detach() for policy in policies]))

    def write_into(self, policy: GaussianActor, k: int) -> None:
        """Give `policy` the weights of member k."""
        with torch.no_grad():
            policy.log_std.copy_(self.log_std[k])
            for layer, weight, bias in zip(_linear(policy), self.mean.weights, self.mean.biases, strict=True):
                layer.weight.copy_(weight[k].t())
                layer.bias.copy_(bias[k, 0])


class ManyIQL(Learner):
    """IQL with K members. Batches are (K, B, ...); metrics (K,). `policies` hold the weights after `settle()`."""

    def __init__(self, members: Sequence[IQL]) -> None:
        """From K learners as they are before their first update. LearningError where they do not fit together."""
        first = members[0]
        super().__init__(first.learning_rate, first.updates)
        _check(members)
        device = first.policy.log_std.device
        self.policies = [member.policy for member in members]
        self.settings = MemberSettings.of([member.settings for member in members], device)
        self.polyak, self.precision = first.settings.polyak, first.settings.precision
        self.actor = StackedActor(self.policies).to(device)
        self.value = _joined([member.value for member in members]).to(device)
        self.q = _joined([member.q for member in members]).to(device)
        self.target_q = _joined([member.target_q for member in members]).to(device).requires_grad_(False)
        self.networks = nn.ModuleDict(
            {"policy": self.actor, "value": self.value, "q": self.q, "target_q": self.target_q}
        )
        self.optimizer = self._make_optimizer()
        size = sum(p.numel() for p in self.q.parameters())
        self._q_weights = self._flat[1].detach()[-size:]
        self._target_weights = flatten_parameters(self.target_q.parameters()).detach()
        self._functions = IQLNetworks(
            lambda s: self._run(self.value, s).squeeze(-1),
            lambda sa: self._twins(self.q, sa),
            lambda sa: self._twins(self.target_q, sa),
            self._log_prob,
        )

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One step on V, Q and pi of every member."""
        loss, metrics = iql_losses(batch, self._functions, self.settings)
        self._descend(loss)
        polyak_average_(self._target_weights, self._q_weights, self.polyak)
        return metrics

    def settle(self) -> list[GaussianActor]:
        """The policies with their weights of now."""
        for k, policy in enumerate(self.policies):
            self.actor.write_into(policy, k)
        return self.policies

    def _run(self, stack: StackedPerceptron, x: Tensor) -> Tensor:
        return stacked_perceptron(x, [*stack.weights], [*stack.biases], self.precision)

    def _twins(self, stack: StackedPerceptron, sa: Tensor) -> Tensor:
        """(K, B, D) -> (2, K, B); the stack has members (k, twin) at row 2k + twin."""
        twice = sa.repeat_interleave(2, dim=0)
        return self._run(stack, twice).view(len(sa), 2, -1).transpose(0, 1)

    def _log_prob(self, s: Tensor, a: Tensor) -> Tensor:
        mean = self._run(self.actor.mean, s)
        mean = torch.tanh(mean) if self.policies[0].bound == "tanh" else mean
        return gaussian_log_prob(mean, self.actor.log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)[:, None], a)


def _linear(policy: GaussianActor) -> list[nn.Linear]:
    return [module for module in policy.actor if isinstance(module, nn.Linear)]


def _empty(members: int, sizes: tuple[int, ...]) -> StackedPerceptron:
    return StackedPerceptron(members, sizes, torch.Generator())


def _joined(stacks: Sequence[StackedPerceptron]) -> StackedPerceptron:
    """One stack with the members of all, in order."""
    weights = list(stacks[0].weights)
    sizes = (weights[0].shape[1], *(weight.shape[2] for weight in weights))
    joined = _empty(sum(stack.members for stack in stacks), sizes)
    with torch.no_grad():
        for own, *parts in zip(joined.parameters(), *(stack.parameters() for stack in stacks), strict=True):
            own.copy_(torch.cat(parts))
    return joined


def _check(members: Sequence[IQL]) -> None:
    """All members share shapes, rates and schedules; gamma, tau, beta and the cap are each one's own."""
    shared: dict[str, set[tuple[object, ...]]] = {
        "network sizes": {(m.policy.observations, m.policy.hidden, m.policy.actions) for m in members},
        "activation and bound": {(m.policy.activation, m.policy.bound) for m in members},
        "learning rate and updates": {(m.learning_rate, m.updates, m.done) for m in members},
        "polyak and precision": {(m.settings.polyak, m.settings.precision) for m in members},
    }
    for name, values in shared.items():
        if len(values) > 1:
            raise LearningError(f"members of one batched model share their {name}, got {sorted(map(str, values))}")
    if members[0].policy.activation != "relu":
        raise LearningError("a batched model has ReLU networks, got tanh")
