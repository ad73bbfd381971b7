"""PolicyPlayer: a policy over time. What it remembers, and the chunk of actions that is under way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.observation import Observation
from sealegs_contract.temporal import ChunkPlayer, History, TemporalSpec
from sealegs_deploy.timing import LoopTiming


class Policy(Protocol):
    """What runs the graph; PolicyRuntime outside tests."""

    def infer(self, observation: NDArray[np.float32], images: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Output (J,) or (chunk, J) in rad from a raw observation (history * D,) and pixels by camera."""
        ...


class PolicyPlayer:
    """Asks `policy` when its last chunk has run out. Durations go to `timing`, misses of `budget_ns` too."""

    def __init__(
        self,
        policy: Policy,
        spec: TemporalSpec,
        period_ns: int,
        budget_ns: int,
        timing: LoopTiming,
        host_ns: Callable[[], int],
    ) -> None:
        self._policy = policy
        self._history = History(spec.history)
        self._chunk = ChunkPlayer(spec, period_ns)
        self._budget_ns = budget_ns
        self.timing = timing
        self.seen: NDArray[np.float32] = np.empty(0, np.float32)
        """The newest input (history * D,)."""
        self._host_ns = host_ns

    def forget(self) -> None:
        """Start anew: nothing remembered, no chunk under way."""
        self._history.reset()
        self._chunk.forget()

    def see(self, observation: Observation) -> NDArray[np.float32]:
        """Remember this period's observation; the input (history * D,) that ends with it. Call it once a period."""
        self.seen = self._history.push(observation.vector)
        return self.seen

    def output(self, observation: Observation, stamp_ns: int) -> tuple[NDArray[np.float64], int]:
        """The output (J,) rad of the period that begins at `stamp_ns`, and the policy's time in ns: 0 within a chunk.

        Call it once a period, in place of `see`. Raises ActionError as the policy does.
        """
        vector, elapsed = self.see(observation), 0
        if self._chunk.due(stamp_ns):
            began = self._host_ns()
            output = self._policy.infer(vector, observation.pixels)
            elapsed = self._host_ns() - began
            self._chunk.begin(stamp_ns, output if self._chunk.spec.chunk > 1 else output[None])
            self.timing.inference.add(elapsed)
            self.timing.late_inference += int(elapsed > self._budget_ns)
        return self._chunk.action(stamp_ns), elapsed
