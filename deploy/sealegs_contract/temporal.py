"""How a policy extends in time: the frames that it remembers, and the actions that one output holds.

Training, evaluation and the live controller use the same functions, so that a policy meets what it was trained on.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from sealegs_contract.errors import SpecError
from sealegs_contract.robot import FrozenModel


class TemporalSpec(FrozenModel):
    """Counts of control periods; the defaults are a policy that sees one frame and gives one action.

    history: frames of the observation vector in one input, oldest first. Where an episode has fewer, its first frame
    stands for the missing ones.
    chunk: actions in one output, one for each of the coming control periods.
    execute: actions of a chunk that are carried out before the policy is asked again.
    image_delay: periods between an image's stamp and the first tick that acts on it, as trained and evaluated.
    """

    history: Annotated[int, Field(ge=1, le=64)] = 1
    chunk: Annotated[int, Field(ge=1, le=256)] = 1
    execute: Annotated[int, Field(ge=1)] = 1
    image_delay: Annotated[int, Field(ge=0, le=64)] = 0

    @model_validator(mode="after")
    def _within_chunk(self) -> TemporalSpec:
        if self.execute > self.chunk:
            raise ValueError(f"{self.execute} actions are to be executed of a chunk that holds {self.chunk}")
        return self


def stack_history(frames: NDArray, length: int) -> NDArray:
    """Inputs (T, length * D) of one episode's frames (T, D): row t holds the frames t-length+1 .. t, oldest first."""
    ago = np.arange(length - 1, -1, -1)
    rows = np.maximum(np.arange(len(frames))[:, None] - ago, 0)
    stacked: NDArray = frames[rows].reshape(len(frames), length * frames.shape[-1])
    return stacked


class History:
    """`stack_history` as the frames come: one robot (D,), or many in step (N, D)."""

    def __init__(self, length: int) -> None:
        self.length = length
        self._frames: list[NDArray] = []

    def reset(self) -> None:
        """A new episode begins."""
        self._frames.clear()

    def push(self, frame: NDArray) -> NDArray:
        """Add the frame (..., D) of this control period; the input (..., length * D). A length of 1 returns `frame`."""
        if self.length == 1:
            return frame
        if self._frames and self._frames[-1].shape != frame.shape:
            raise SpecError(f"history holds frames of shape {self._frames[-1].shape}, got {frame.shape}")
        frame = frame.copy()  # callers may reuse theirs
        self._frames = [*(self._frames or [frame] * self.length)[1:], frame]
        stacked: NDArray = np.concatenate(self._frames, axis=-1)
        return stacked


class ChunkPlayer:
    """Which action of the newest chunk is due, by time: action k belongs to the k-th period after its observation.

    A period that is missed takes its action with it, and what is left of a chunk is never played after its time.
    """

    def __init__(self, spec: TemporalSpec, period_ns: int) -> None:
        self.spec = spec
        self._period_ns = period_ns
        self._actions: NDArray | None = None
        self._begun_ns = 0

    def forget(self) -> None:
        """Drop the chunk: the next action needs a new one."""
        self._actions = None

    def due(self, stamp_ns: int) -> bool:
        """Whether the policy must be asked at the observation of `stamp_ns`."""
        return self._actions is None or not 0 <= self._index(stamp_ns) < self.spec.execute

    def begin(self, stamp_ns: int, actions: NDArray) -> None:
        """Play `actions` (chunk, ...), computed from the observation of `stamp_ns`. SpecError on another length."""
        if len(actions) != self.spec.chunk:
            raise SpecError(f"a chunk of {self.spec.chunk} actions is expected, got shape {actions.shape}")
        self._actions, self._begun_ns = actions, stamp_ns

    def action(self, stamp_ns: int) -> NDArray:
        """The action (...) of the period that begins at `stamp_ns`. SpecError where `due` says to ask first."""
        if self._actions is None or self.due(stamp_ns):
            raise SpecError(f"no action is planned for {stamp_ns} ns: the policy must be asked first")
        action: NDArray = self._actions[self._index(stamp_ns)]
        return action

    def _index(self, stamp_ns: int) -> int:
        """Whole periods since the chunk's observation, rounded to the nearest: stamps jitter."""
        return (2 * (stamp_ns - self._begun_ns) + self._period_ns) // (2 * self._period_ns)
