"""Rewards that need no labels: `true`, the simulated task's progress, and `constant`, the control."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import LearningError, available
from sealegs_contract.spec import ObservationSpec

BUILTIN_REWARDS = ("true", "constant")


class EpisodeLike(Protocol):
    """An episode's rows [start, start + length) and its task's name."""

    @property
    def start(self) -> int:
        """First row."""
        ...

    @property
    def length(self) -> int:
        """Number of rows."""
        ...

    @property
    def task(self) -> str:
        """Name of the task."""
        ...


class HasEpisodes(Protocol):
    """What the built-in rewards need of a dataset."""

    @property
    def state(self) -> NDArray[np.float32]:
        """Observations (N, D)."""
        ...

    @property
    def observation_spec(self) -> ObservationSpec:
        """What a row of `state` means."""
        ...

    @property
    def episodes(self) -> tuple[EpisodeLike, ...] | list[EpisodeLike]:
        """Its episodes, in row order."""
        ...


def true_progress(data: HasEpisodes) -> NDArray[np.float32]:
    """Progress (N,) in [0, 1] of every row under its episode's task: a function of the state alone.

    LearningError where a task is not one of the simulator's, or the state lacks an object that the task needs.
    """
    from sealegs_sim.tasks import TASKS, get_task

    progress = np.zeros(len(data.state), dtype=np.float32)
    fields = data.observation_spec.split(np.asarray(data.state, dtype=np.float64))
    for episode in data.episodes:
        if episode.task not in TASKS:
            raise LearningError(f"true progress is unknown for task {episode.task!r}; {available(TASKS)}")
        rows = slice(episode.start, episode.start + episode.length)
        try:
            progress[rows] = get_task(episode.task).progress({name: values[rows] for name, values in fields.items()})
        except KeyError as error:
            raise LearningError(
                f"true progress of {episode.task!r} needs {error} in the state; {available(fields)}"
            ) from error
    return progress


def constant_reward(data: HasEpisodes) -> NDArray[np.float32]:
    """Zero for every row (N,). Any other constant only shifts every value by the same amount."""
    return np.zeros(len(data.state), dtype=np.float32)
