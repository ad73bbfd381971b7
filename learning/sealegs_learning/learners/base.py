"""What every learner shares: a policy, one optimiser, the actor's learning-rate schedule, and its state as tensors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sealegs_contract.errors import LearningError
from sealegs_learning.learners.flat import flatten_parameters
from sealegs_learning.networks import GaussianActor
from sealegs_learning.transitions import Batch


def cosine_rate(initial: float, done: int, total: int) -> float:
    """initial * (1 + cos(pi done/total)) / 2: from `initial` to zero."""
    return initial * 0.5 * (1.0 + math.cos(math.pi * min(done / total, 1.0)))


class Trainable:
    """Networks with one optimiser, whose state is a set of named tensors."""

    policy: GaussianActor
    networks: nn.ModuleDict
    optimizer: torch.optim.Adam
    learning_rate: float
    done: int = 0
    _flat: list[torch.nn.Parameter]

    def _make_optimizer(self) -> torch.optim.Adam:
        """One Adam for all: the actor's group first, since its rate differs. The target network is in no group."""
        others = [p for name, net in self.networks.items() if name != "policy" for p in net.parameters()]
        groups = [list(self.networks["policy"].parameters()), [p for p in others if p.requires_grad]]
        self._flat = [flatten_parameters(group) for group in groups if group]
        graphed = self._flat[0].is_cuda  # a captured step reads its rate from memory
        rate: Any = self.learning_rate
        optimizer = torch.optim.Adam(
            [{"params": [flat]} for flat in self._flat], lr=rate, fused=True, capturable=graphed
        )
        if graphed:
            for group in optimizer.param_groups:
                group["lr"] = torch.tensor(rate, device=self._flat[0].device)
        return optimizer

    def tensors(self) -> dict[str, Tensor]:
        """Weights and optimiser moments by name."""
        state = {f"networks.{name}": tensor.clone() for name, tensor in self.networks.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{index}.{key}": value for key, value in moments.items()}
        return state

    def load_tensors(self, state: Mapping[str, Tensor], done: int) -> None:
        """Inverse of `tensors`. LearningError if a name or shape does not fit."""
        try:
            self.networks.load_state_dict(
                {k.removeprefix("networks."): v for k, v in state.items() if k.startswith("networks.")}
            )
        except RuntimeError as error:
            raise LearningError(
                f"the checkpoint's weights do not fit the learner: {str(error).splitlines()[-1]}"
            ) from error
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".")
                moments.setdefault(int(index), {})[name] = value.clone()
        self.optimizer.load_state_dict({"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.done = done


class Learner(Trainable, ABC):
    """`update` takes one gradient step. Everything that a bit-exact resume needs is in `tensors()`."""

    def __init__(self, learning_rate: float, updates: int) -> None:
        self.learning_rate = learning_rate
        self.updates = updates

    def update(self, batch: Batch, measured: bool = True) -> dict[str, Tensor]:
        """One gradient step; metrics as detached scalars, which a learner may leave out where not asked for."""
        self.schedule()
        metrics = self.step(batch, measured)
        self.done += 1
        return metrics

    def schedule(self) -> None:
        """The actor's step size for the next update."""
        group, rate = self.optimizer.param_groups[0], cosine_rate(self.learning_rate, self.done, self.updates)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate

    @abstractmethod
    def step(self, batch: Batch, measured: bool = True) -> dict[str, Tensor]:
        """The tensor part of `update`, which a CUDA graph can replay: no number in it changes from step to step."""

    def _descend(self, loss: Tensor) -> None:
        for flat in self._flat:
            flat.grad.zero_()  # type: ignore[union-attr]
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
