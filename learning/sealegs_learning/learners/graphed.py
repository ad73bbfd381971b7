"""Updates of a learner replayed as one CUDA graph: one launch an update, instead of some two hundred.

Indices are drawn by the CPU's generator, in blocks, so a run on a GPU has the batches of the same run on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sealegs_contract.errors import MachineError
from sealegs_learning.learners.base import Learner
from sealegs_learning.transitions import Transitions

_WARM_UP = 3
_BLOCK = 4096  # updates whose indices are drawn and sent at once


def check_device(device: str) -> torch.device:
    """The torch device of this name. MachineError where this machine has none."""
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise MachineError(f"device {device!r} is not known; expected cpu or cuda") from error
    if found.type not in {"cpu", "cuda"}:
        raise MachineError(f"device {device!r} is not supported; expected cpu or cuda")
    if found.type == "cuda" and not torch.cuda.is_available():
        raise MachineError(f"device {device!r}: torch {torch.__version__} sees no CUDA GPU here; use cpu")
    return found


class GraphedUpdates:
    """`advance` does what `learner.update` does on sampled batches. Learner and transitions are on the GPU.

    `members` K gives batches (K, B, ...) from K generators, for `ManyIQL`.
    """

    def __init__(self, learner: Learner, transitions: Transitions, batch_size: int, members: int = 0) -> None:
        if not transitions.packed.is_cuda:
            raise MachineError(f"a CUDA graph needs its data on the GPU, got {transitions.packed.device}")
        self.learner, self.transitions, self.batch_size, self.members = learner, transitions, batch_size, members
        shape = (members, batch_size) if members else (batch_size,)
        self._index = torch.zeros(shape, dtype=torch.int64, device=transitions.packed.device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._metrics: dict[str, Tensor] = {}

    def advance(self, generators: list[torch.Generator], updates: int) -> dict[str, Tensor]:
        """`updates` gradient steps; the last one's metrics."""
        graph = self._graph or self._capture()
        left = updates
        while left:
            count = min(left, _BLOCK)
            for index in self._draw(generators, count):
                self._index.copy_(index)
                self.learner.schedule()
                graph.replay()
                self.learner.done += 1
            left -= count
        return self._metrics

    def _draw(self, generators: list[torch.Generator], count: int) -> Tensor:
        drawn = [self.transitions.draw(generator, self.batch_size, count) for generator in generators]
        block = torch.stack(drawn, dim=1) if self.members else drawn[0]
        return block.to(self._index.device)

    def _capture(self) -> torch.cuda.CUDAGraph:
        """Capture one step. The steps that warm the allocator up are undone, so that capturing changes no result."""
        learner = self.learner
        before, done = {k: v.clone() for k, v in learner.tensors().items()}, learner.done
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                learner.step(self.transitions.rows(self._index))
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._metrics = learner.step(self.transitions.rows(self._index))
        _restore(learner, before)
        learner.done = done
        self._graph = graph
        return graph


def _restore(learner: Learner, state: Mapping[str, Tensor]) -> None:
    """Put `state` into the very tensors that a graph captured; moments of a fresh optimiser are zero."""
    with torch.no_grad():
        for name, tensor in learner.networks.state_dict().items():
            tensor.copy_(state[f"networks.{name}"])
        for index, parameter in enumerate(p for group in learner.optimizer.param_groups for p in group["params"]):
            for key, moment in learner.optimizer.state[parameter].items():
                kept = state.get(f"optimizer.{index}.{key}")
                moment.zero_() if kept is None else moment.copy_(kept)
