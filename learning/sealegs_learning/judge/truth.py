"""True progress of a dataset's rows, where its tasks are simulated ones whose progress is a function of the state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import DatasetError
from sealegs_contract.spec import ObservationSpec


class StateDataset(Protocol):
    """The part of a dataset that truth needs; each episode has `task`, `start` and `length`."""

    @property
    def episodes(self) -> Sequence[Any]:
        """Episode rows."""
        ...

    @property
    def state(self) -> NDArray[np.float32]:
        """Observation vectors (N, D)."""
        ...

    @property
    def observation_spec(self) -> ObservationSpec:
        """What the vectors hold."""
        ...


def true_progress(dataset: StateDataset) -> NDArray[np.float64] | None:
    """Progress (N,) in [0, 1] of every row; None when a task is unknown here or its fields were not recorded."""
    from sealegs_sim.tasks import TASKS

    if any(episode.task not in TASKS for episode in dataset.episodes):
        return None
    progress = np.zeros(len(dataset.state), dtype=np.float64)
    for episode in dataset.episodes:
        rows = slice(episode.start, episode.start + episode.length)
        try:
            fields = dataset.observation_spec.split(np.asarray(dataset.state[rows], dtype=np.float64))
            progress[rows] = TASKS[episode.task].progress(fields)
        except (KeyError, DatasetError):
            return None
    return progress
