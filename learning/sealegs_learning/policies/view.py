"""View: a policy's inputs and outputs from logged rows; `acting.PolicyActor` makes the same of frames as they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import LearningError, SpecError
from sealegs_contract.selection import columns_of, select_fields
from sealegs_contract.spec import ImageField, ObservationSpec
from sealegs_contract.temporal import TemporalSpec, stack_history
from sealegs_learning.policies.settings import InputSettings

if TYPE_CHECKING:
    from sealegs_learning.transitions import LoggedData


@dataclass(frozen=True)
class View:
    """The observation of one frame as the policy sees it, and how it extends in time."""

    observation_spec: ObservationSpec
    temporal: TemporalSpec = field(default_factory=TemporalSpec)

    @classmethod
    def make(cls, data: LoggedData, inputs: InputSettings, chunk: int = 1, execute: int = 1) -> View:
        """The view that `inputs` asks for of `data`. LearningError for an unknown field."""
        height, width = inputs.image_size
        cameras = [data.robot.camera(name).name for name in inputs.cameras]
        images = [ImageField(camera=name, height=height, width=width) for name in cameras]
        try:
            spec = select_fields(data.observation_spec, inputs.fields, images)
        except SpecError as error:
            raise LearningError(f"inputs.fields: {error}") from error
        delay = inputs.image_delay if inputs.cameras else 0
        return cls(spec, TemporalSpec(history=inputs.history, chunk=chunk, execute=execute, image_delay=delay))

    def inputs(self, data: LoggedData, episodes: Sequence[slice]) -> NDArray[np.float32]:
        """Input vectors (N, history * D) of all rows of `data`; those outside `episodes` are zero."""
        frames = np.asarray(data.state, dtype=np.float32)[:, columns_of(self.observation_spec, data.observation_spec)]
        if self.temporal.history == 1:
            return frames
        stacked = np.zeros((len(frames), self.temporal.history * frames.shape[1]), dtype=np.float32)
        for episode in episodes:
            stacked[episode] = stack_history(frames[episode], self.temporal.history)
        return stacked

    def outputs(self, data: LoggedData, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs (T, chunk * J) of the normalised actions (T, J) of one episode."""
        return chunked(actions, self.temporal.chunk, stay=data.action_spec.kind == "joint_delta")


def chunked(actions: NDArray[np.float32], chunk: int, stay: bool) -> NDArray[np.float32]:
    """Row t: the actions t .. t+chunk-1, (T, J) -> (T, chunk * J).

    Beyond the end the last target goes on: action 0 where actions are deltas (`stay`), else the last action.
    """
    if chunk == 1:
        return actions
    last = np.zeros_like(actions[-1:]) if stay else actions[-1:]
    padded = np.concatenate([actions, *[last] * (chunk - 1)])
    rows = np.arange(len(actions))[:, None] + np.arange(chunk)
    chunks: NDArray[np.float32] = padded[rows].reshape(len(actions), -1)
    return chunks
