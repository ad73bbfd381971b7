"""What is kept over a stream: moments, exact whatever the batch sizes (Chan et al., 1979), and finished episodes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sealegs_learning.learners.ppo_equations import discounted_sums

FloatArray = NDArray[np.float64]


class RunningMoments:
    """Mean (D,) and variance (D,) of all rows seen; before the first, 0 and 1."""

    def __init__(self, size: int) -> None:
        self.mean = np.zeros(size)
        self.variance = np.ones(size)
        self.count = 0.0

    def update(self, rows: NDArray[np.floating]) -> None:
        """Take in rows (..., D)."""
        rows = np.asarray(rows, dtype=np.float64).reshape(-1, len(self.mean))
        count = len(rows)
        mean, variance = rows.mean(axis=0), rows.var(axis=0)
        if not self.count:
            self.mean, self.variance, self.count = mean, variance, float(count)
            return
        total = self.count + count
        shift = mean - self.mean
        self.variance = (
            self.variance * self.count + variance * count + np.square(shift) * (self.count * count / total)
        ) / total
        self.mean = self.mean + shift * (count / total)
        self.count = total

    @property
    def deviation(self) -> FloatArray:
        """Standard deviation (D,)."""
        return np.sqrt(self.variance)

    def tensors(self) -> dict[str, Tensor]:
        """State by name."""
        return {
            "mean": torch.from_numpy(self.mean.copy()),
            "variance": torch.from_numpy(self.variance.copy()),
            "count": torch.tensor(self.count, dtype=torch.float64),
        }

    def load_tensors(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `tensors`."""
        self.mean, self.variance = state["mean"].numpy().copy(), state["variance"].numpy().copy()
        self.count = float(state["count"])


class RewardScale:
    """Divides rewards by the running deviation of the discounted sums, so that value targets stay near unit size."""

    LIMIT = 10.0
    """Scaled rewards are clipped to this."""

    def __init__(self, envs: int, gamma: float) -> None:
        self.gamma = gamma
        self.moments = RunningMoments(1)
        self.sums: NDArray[np.floating] = np.zeros(envs)

    def __call__(self, reward: FloatArray, ended: NDArray[np.bool_]) -> FloatArray:
        """Scaled rewards (T, N) of a rollout, after taking it into account."""
        sums, self.sums = discounted_sums(reward, ended, self.sums, self.gamma)
        self.moments.update(sums.reshape(-1, 1))
        scaled: FloatArray = reward / np.sqrt(self.moments.variance[0] + 1e-8)
        return np.clip(scaled, -self.LIMIT, self.LIMIT)

    def tensors(self) -> dict[str, Tensor]:
        """State by name."""
        return self.moments.tensors() | {"sums": torch.from_numpy(self.sums.copy())}

    def load_tensors(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `tensors`."""
        self.moments.load_tensors(state)
        self.sums = state["sums"].numpy().copy()


class EpisodeTally:
    """Undiscounted returns, lengths and success of the last `KEPT` finished episodes of `envs` envs."""

    KEPT = 100

    def __init__(self, envs: int) -> None:
        self._return, self._length = np.zeros(envs), np.zeros(envs)
        self.finished = np.empty((0, 3))
        """Rows: return, steps, success (0 or 1; -1 where the task knows none)."""

    def step(self, reward: FloatArray) -> None:
        """One step's rewards (N,)."""
        self._return += reward
        self._length += 1.0

    def end(self, ended: NDArray[np.bool_], success: NDArray[np.bool_] | None) -> None:
        """Episodes (N,) that end with this step."""
        reached = np.full(len(ended), -1.0) if success is None else success.astype(np.float64)
        rows = np.stack([self._return, self._length, reached], axis=1)[ended]
        self.finished = np.concatenate([self.finished, rows])[-self.KEPT :]
        self._return[ended] = self._length[ended] = 0.0

    def figures(self) -> dict[str, float]:
        """Means over the kept episodes; nothing before the first has ended, no success where none is known."""
        if not len(self.finished):
            return {}
        returned, length, success = map(float, self.finished.mean(axis=0))
        known = {"episode_success": success} if success >= 0.0 else {}
        return {"episode_return": returned, "episode_length": length, **known}

    def tensors(self) -> dict[str, Tensor]:
        """State by name."""
        return {
            "running": torch.from_numpy(np.stack([self._return, self._length])),
            "finished": torch.from_numpy(self.finished.copy()),
        }

    def load_tensors(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `tensors`."""
        self._return, self._length = state["running"].numpy().copy()
        self.finished = state["finished"].numpy().copy()
