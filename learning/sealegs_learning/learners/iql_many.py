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
from sealegs_learning.learners.iql import IQL, IQLNetworks, iql_gradients
from sealegs_learning.learners.settings import IQLSettings
from sealegs_learning.learners.stack import stacked
from sealegs_learning.networks import GaussianActor, StackedPerceptron
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
        self.polyak = first.settings.polyak
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
        precision = first.settings.precision
        self._running = IQLNetworks(
            stacked(self.value, precision),
            stacked(self.q, precision),
            stacked(self.target_q, precision, trained=False),
            stacked(self.actor.mean, precision),
            self.actor.log_std,
            self.policies[0].bound == "tanh",
            len(members),
        )

    def step(self, batch: Batch, measured: bool = True) -> dict[str, Tensor]:
        """One step on V, Q and pi of every member."""
        metrics = iql_gradients(batch, self._running, self.settings, measured)
        self.optimizer.step()
        polyak_average_(self._target_weights, self._q_weights, self.polyak)
        return metrics

    def settle(self) -> list[GaussianActor]:
        """The policies with their weights of now."""
        for k, policy in enumerate(self.policies):
            self.actor.write_into(policy, k)
        return self.policies


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
