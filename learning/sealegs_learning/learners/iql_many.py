"""K runs of IQL, over seeds or settings, as one batched model: what a GPU is too wide for one run to fill.

Member k has the weights, batches and settings of the run by itself, and no product mixes members, so it becomes that
run's policy up to the rounding of floats.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
    """What of the equations may differ between members, each (K, 1)."""

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
    """The Gaussians of K policies of one shape, their weights without meaning."""

    def __init__(self, members: int, one: GaussianActor) -> None:
        super().__init__()
        self.mean = _empty(members, (one.observations, *one.hidden, one.actions))
        self.log_std = nn.Parameter(torch.zeros(members, one.actions))


class ManyIQL(Learner):
    """IQL with K members. Batches are (K, B, ...); metrics (K,). The members themselves stay behind until `settle`."""

    def __init__(self, members: Sequence[IQL]) -> None:
        """From K learners as they are, after equally many updates. LearningError where they do not fit together."""
        first, count = members[0], len(members)
        super().__init__(max(member.learning_rate for member in members), first.updates)
        _check(members)
        device = first.policy.log_std.device
        self.members, self.done = members, first.done
        self.settings = MemberSettings.of([member.settings for member in members], device)
        self.actor = StackedActor(count, first.policy).to(device)
        self.value, self.q = _wide(first.value, count).to(device), _wide(first.q, count).to(device)
        self.target_q = _wide(first.target_q, count).to(device).requires_grad_(False)
        self.networks = nn.ModuleDict(
            {"policy": self.actor, "value": self.value, "q": self.q, "target_q": self.target_q}
        )
        self.optimizer = self._make_optimizer()
        size = sum(p.numel() for p in self.q.parameters())
        self._q_weights = self._flat[1].detach()[-size:]
        self._target_weights = flatten_parameters(self.target_q.parameters()).detach()
        self._set_rates()
        for model, place, own in self._pairs():
            model[place] = own
        self._running = self._run_through(first)

    def _set_rates(self) -> None:
        """Numbers where all members have the same: a vector is a buffer more to read."""
        polyak = [member.settings.polyak for member in self.members]
        self._polyak: float | Tensor = polyak[0] if len(set(polyak)) == 1 else self._each(polyak)[2]
        shares = [member.learning_rate / self.learning_rate for member in self.members]
        self._shares = self._each(shares)[:2] if len(set(shares)) > 1 else []
        self._before = [torch.empty_like(share) for share in self._shares]

    def _run_through(self, first: IQL) -> IQLNetworks:
        precision = first.settings.precision
        return IQLNetworks(
            stacked(self.value, precision),
            stacked(self.q, precision),
            stacked(self.target_q, precision, trained=False),
            stacked(self.actor.mean, precision),
            self.actor.log_std,
            first.policy.bound == "tanh",
            len(self.members),
        )

    def step(self, batch: Batch, measured: bool = True) -> dict[str, Tensor]:
        """One step on V, Q and pi of every member."""
        metrics = iql_gradients(batch, self._running, self.settings, measured)
        self._descend_each()
        polyak_average_(self._target_weights, self._q_weights, self._polyak)
        return metrics

    def settle(self) -> list[GaussianActor]:
        """Bring the members to where the model is, their optimisers too. Their policies."""
        for model, place, own in self._pairs():
            own.copy_(model[place])
        for member in self.members:
            member.done = self.done
            for flat in member._flat:
                member.optimizer.state[flat]["step"].fill_(self.done)
        return [member.policy for member in self.members]

    def _descend_each(self) -> None:
        """Adam's step is linear in the rate: all go the largest one's, then back to the member's share of it."""
        weights = [flat.detach() for flat in self._flat]
        for before, now in zip(self._before, weights, strict=False):
            before.copy_(now)
        self.optimizer.step()
        for before, now, share in zip(self._before, weights, self._shares, strict=False):
            torch.lerp(before, now, share, out=now)

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """All state: a buffer of the model, where in it a member's lies, and the member's."""
        ours = _buffers(self)
        for member, places in zip(self.members, self._places(), strict=True):
            for group, place, own in zip(ours, places, _buffers(member), strict=True):
                yield from ((model, place, theirs) for model, theirs in zip(group, own, strict=True))

    def _places(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """For each member, the indices of pi's weights, of V's and Q's, and of Qt's, in the member's own order."""
        log_std, *layers = _numbered(self.actor.parameters())
        half = len(layers) // 2  # weights, then biases; an actor's own come in turn, its weights (out, in)
        value, q, target_q = (list(net.parameters()) for net in (self.value, self.q, self.target_q))
        critics, targets = _numbered([*value, *q]), _numbered(target_q)
        for k in range(len(self.members)):
            linear = [part[k].t() for pair in zip(layers[:half], layers[half:], strict=True) for part in pair]
            twins = [part[2 * k : 2 * k + 2] for part in critics[len(value) :]]
            yield (
                _in_line([log_std[k], *linear]),
                _in_line([*(part[k] for part in critics[: len(value)]), *twins]),
                _in_line([part[2 * k : 2 * k + 2] for part in targets]),
            )

    def _each(self, values: Sequence[float]) -> list[Tensor]:
        """A number a member as one for each of its weights: of pi, of V and Q, and of Qt."""
        buffers = [torch.empty_like(group[0]) for group in _buffers(self)]
        for value, places in zip(values, self._places(), strict=True):
            for buffer, place in zip(buffers, places, strict=True):
                buffer[place] = value
        return buffers


def _buffers(learner: IQL | ManyIQL) -> list[list[Tensor]]:
    """Weights and both moments of pi, the same of V and Q, and the weights of Qt: flat, all that learns."""
    adam = learner.optimizer
    if not adam.state:  # an Adam of no steps, with moments to write into
        zeros = [{name: torch.zeros_like(flat) for name in ("exp_avg", "exp_avg_sq")} for flat in learner._flat]
        state = {group: {"step": torch.tensor(float(learner.done)), **moments} for group, moments in enumerate(zeros)}
        adam.load_state_dict({"state": state, "param_groups": adam.state_dict()["param_groups"]})
    trained = [
        [flat.detach(), *(adam.state[flat][name] for name in ("exp_avg", "exp_avg_sq"))] for flat in learner._flat
    ]
    return [*trained, [learner._target_weights]]


def _numbered(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """Where each element lies in the flat buffer that holds these parameters in order, in the parameters' shapes."""
    found = list(parameters)
    sizes = [p.numel() for p in found]
    parts = torch.split(torch.arange(sum(sizes), device=found[0].device), sizes)
    return [part.view(p.shape) for part, p in zip(parts, found, strict=True)]


def _in_line(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


def _wide(stack: StackedPerceptron, members: int) -> StackedPerceptron:
    """A stack for `members` of these, its weights without meaning."""
    weights = list(stack.weights)
    return _empty(members * stack.members, (weights[0].shape[1], *(weight.shape[2] for weight in weights)))


def _empty(members: int, sizes: tuple[int, ...]) -> StackedPerceptron:
    return StackedPerceptron(members, sizes, torch.Generator())


def _check(members: Sequence[IQL]) -> None:
    """All members share shapes, precision and schedule; the other settings and the learning rate are each one's own."""
    shared: dict[str, set[tuple[object, ...]]] = {
        "network sizes": {(m.policy.observations, m.policy.hidden, m.policy.actions) for m in members},
        "activation and bound": {(m.policy.activation, m.policy.bound) for m in members},
        "updates": {(m.updates, m.done) for m in members},
        "precision": {(m.settings.precision,) for m in members},
    }
    for name, values in shared.items():
        if len(values) > 1:
            raise LearningError(f"members of one batched model share their {name}, got {sorted(map(str, values))}")
    if members[0].policy.activation != "relu":
        raise LearningError("a batched model has ReLU networks, got tanh")
