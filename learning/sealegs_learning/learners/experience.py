"""Experience of a policy in a vector env: T steps of N envs, with all that an on-policy learner needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sealegs_contract.errors import LearningError
from sealegs_learning.learners.ppo_equations import log_prob_of
from sealegs_learning.learners.running import EpisodeTally
from sealegs_learning.networks import Normalizer
from sealegs_sim.batched import BatchedEnv, generator_from_words, generator_words

FloatArray = NDArray[np.float32]


class Rollout(NamedTuple):
    """T steps of N envs. Observations are normalised; rows of (T N, ...) run over envs first, then over time.

    `final_observation` (K, D): last observations of the K episodes that ended, in the order of `ended`'s True entries.
    """

    observation: FloatArray
    action: FloatArray
    log_prob: FloatArray
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    ended: NDArray[np.bool_]
    final_observation: FloatArray
    last_observation: FloatArray
    raw_observation: NDArray[np.floating]


class Actor(Protocol):
    """What acts: a Gaussian's mean at normalised observations, and its log deviations."""

    @property
    def log_std(self) -> FloatArray:
        """(J,)."""
        ...

    def mean_action(self, observation: Tensor) -> FloatArray:
        """(N, J) at (N, D)."""
        ...


@dataclass
class Collector:
    """Steps a `same_step` vector env with a stochastic policy; `steps` = T control steps of every env a rollout."""

    env: BatchedEnv
    steps: int
    seed: int

    def __post_init__(self) -> None:
        if self.env.autoreset.value != "SameStep":
            raise LearningError(f"rollouts need an env with autoreset same_step, got {self.env.autoreset.value}")
        self.observation = np.asarray(self.env.reset(seed=self.seed)[0])
        self._noise = np.random.default_rng((self.seed, 1))
        self.tally = EpisodeTally(self.env.num_envs)
        space = self.env.single_action_space
        self._low, self._high = np.asarray(space.low), np.asarray(space.high)

    def collect(self, actor: Actor, normalizer: Normalizer) -> Rollout:
        """One rollout. Actions are clipped to the env's range when they are applied, not in the rollout."""
        t_n, envs = (self.steps, self.env.num_envs), self.env.num_envs
        mean, precision = normalizer.mean.numpy(), 1.0 / normalizer.std.numpy()
        log_std = actor.log_std
        noise = self._noise.standard_normal((*t_n, len(log_std)), dtype=np.float32)
        spread = noise * np.exp(log_std)
        raw = np.empty((*t_n, len(mean)), dtype=self.observation.dtype)
        observation = np.empty((self.steps * envs, len(mean)), dtype=np.float32)
        action = np.empty_like(noise)
        reward, terminated, ended = np.empty(t_n), np.empty(t_n, dtype=bool), np.empty(t_n, dtype=bool)
        rows = torch.from_numpy(observation).view(self.steps, envs, -1)
        final: list[NDArray] = []
        for t in range(self.steps):
            raw[t] = self.observation
            seen = observation[t * envs : (t + 1) * envs]
            np.multiply(raw[t] - mean, precision, out=seen, casting="same_kind")
            np.add(actor.mean_action(rows[t]), spread[t], out=action[t])
            applied = np.minimum(np.maximum(action[t], self._low), self._high)
            self.observation, reward[t], terminated[t], truncated, info = self.env.step(applied)
            np.logical_or(terminated[t], truncated, out=ended[t])
            self.tally.step(reward[t])
            if ended[t].any():
                final.append(info["final_obs"][ended[t]])
                self.tally.end(ended[t], info["final_info"].get("success"))

        def fit(values: NDArray) -> FloatArray:
            return np.asarray((values - mean) * precision, dtype=np.float32)

        return Rollout(
            observation,
            action.reshape(-1, action.shape[-1]),
            log_prob_of(noise, log_std),
            reward,
            terminated,
            ended,
            fit(np.concatenate(final)) if final else np.empty((0, len(mean)), dtype=np.float32),
            fit(self.observation),
            raw,
        )

    def tensors(self) -> dict[str, Tensor]:
        """State of the envs, of the noise and of the running episodes, by name."""
        state = {f"env.{name}": torch.from_numpy(np.array(value)) for name, value in self.env.state().items()}
        state["noise"] = torch.from_numpy(generator_words(self._noise))
        return state | {f"tally.{name}": tensor for name, tensor in self.tally.tensors().items()}

    def load_tensors(self, state: dict[str, Tensor]) -> None:
        """Inverse of `tensors`."""
        self.observation = np.asarray(
            self.env.set_state({k.removeprefix("env."): v.numpy() for k, v in state.items() if k.startswith("env.")})
        )
        self._noise = generator_from_words(state["noise"].numpy())
        self.tally.load_tensors({k.removeprefix("tally."): v for k, v in state.items() if k.startswith("tally.")})
