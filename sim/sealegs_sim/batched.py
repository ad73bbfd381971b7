"""BatchedEnv: what every vector env on `mujoco.batch` shares: seeds, autoreset, and a state that can be saved."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import mujoco
import mujoco.batch
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from sealegs_contract.errors import SimulationError

Rows = NDArray[np.intp]
Seeds = int | Sequence[int | None] | None
State = dict[str, NDArray]
_LOW_64 = (1 << 64) - 1


def generator_words(rng: np.random.Generator) -> NDArray[np.uint64]:
    """State of a PCG64 generator as words (6,): what `generator_from_words` needs to go on with the same draws."""
    state: Any = rng.bit_generator.state
    if state["bit_generator"] != "PCG64":
        raise SimulationError(f"only PCG64 generators can be saved, got {state['bit_generator']}")
    value, increment = state["state"]["state"], state["state"]["inc"]
    words = [value >> 64, value & _LOW_64, increment >> 64, increment & _LOW_64, state["has_uint32"], state["uinteger"]]
    return np.array(words, dtype=np.uint64)


def generator_from_words(words: NDArray[np.uint64]) -> np.random.Generator:
    """Inverse of `generator_words`."""
    high, low, increment_high, increment_low, has_uint32, uinteger = (int(word) for word in words)
    bits = np.random.PCG64()
    bits.state = {
        "bit_generator": "PCG64",
        "state": {"state": high << 64 | low, "inc": increment_high << 64 | increment_low},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }
    return np.random.Generator(bits)


class BatchedEnv(gymnasium.vector.VectorEnv):
    """`num_envs` simulations of one model, stepped together on `threads` threads; each has its own seeded generator.

    Autoreset follows gymnasium: `next_step` (the step after an episode's end ignores its action and returns the new
    start with reward 0), `same_step` (the new start at once, the last observation in info["final_obs"], rows marked
    in info["_final_obs"]), or `disabled` (reset by hand: options={"reset_mask": (num_envs,) bool}).
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 - gymnasium's declaration

    def __init__(
        self, model: mujoco.MjModel, num_envs: int, threads: int, autoreset: str | AutoresetMode, horizon_steps: int
    ) -> None:
        if num_envs < 1 or threads < 1:
            raise SimulationError(f"num_envs and threads must be at least 1, got {num_envs} and {threads}")
        self.num_envs, self.horizon_steps = num_envs, horizon_steps
        self.autoreset = _autoreset_mode(autoreset)
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset}
        self._batch = mujoco.batch.Batch(model, nsim=num_envs, nthread=threads)
        self._qpos, self._qvel, self._ctrl = (self._batch.bind(name) for name in ("qpos", "qvel", "ctrl"))
        self._rngs = [np.random.default_rng() for _ in range(num_envs)]
        self._steps = np.zeros(num_envs, dtype=np.int64)
        self._ended = np.zeros(num_envs, dtype=bool)
        self._started = False

    @abstractmethod
    def _start(self, rows: Rows) -> None:
        """New starts, drawn from the rows' generators; `_steps` and `_ended` are cleared by the caller."""

    @abstractmethod
    def _advance(self, actions: NDArray[np.floating], active: Rows | None) -> None:
        """One control period of the active rows (None: all); the others stand still."""

    @abstractmethod
    def _observation(self) -> NDArray[np.floating]:
        """Observations (N, D)."""

    @abstractmethod
    def _start_info(self, observation: NDArray[np.floating]) -> dict[str, Any]:
        """Info of (N,) at the starts."""

    @abstractmethod
    def _outcome(
        self, actions: NDArray[np.floating], observation: NDArray[np.floating], active: Rows | None
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], dict[str, Any]]:
        """Rewards and terminated flags (N,) and info of (N,) of the step that has just been made."""

    def _sense(self, observation: NDArray[np.floating], active: Rows | None) -> None:
        """The active rows have new observations, of `observation` (N, D)."""

    def _seen(self, observation: NDArray[np.floating]) -> NDArray[np.floating]:
        """What of the true observations (N, D) comes to the policies: all, unless the env delays them."""
        return observation

    def reset(self, *, seed: Seeds = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start episodes. `seed`: one per env, or an integer s for s, s+1, ...; None goes on with each env's generator.

        options={"reset_mask": (num_envs,) bool} restarts those envs only.
        """
        mask = (options or {}).get("reset_mask")
        rows = np.arange(self.num_envs) if mask is None else np.flatnonzero(mask)
        if not self._started and len(rows) != self.num_envs:
            raise SimulationError("the first reset() must start all envs, without a reset_mask")
        for row, one in zip(rows, self._seeds(seed)[rows], strict=True):
            if one is not None:
                self._rngs[row] = np.random.default_rng(int(one))
        self._restart(rows)
        observation = self._observation()
        return self._seen(observation), self._start_info(observation)

    def step(self, actions: NDArray[np.floating]) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One control period of all envs: observations (N, D), rewards, terminated, truncated (N,), info of (N,)."""
        if not self._started:
            raise SimulationError("step() before reset(): there are no episodes yet")
        active: Rows | None = None
        if self.autoreset is AutoresetMode.NEXT_STEP and self._ended.any():
            active = np.flatnonzero(~self._ended)
            self._restart(np.flatnonzero(self._ended))
        self._advance(actions, active)
        if active is None:
            self._steps += 1
        else:
            self._steps[active] += 1
        observation = self._observation()
        reward, terminated, info = self._outcome(actions, observation, active)
        if active is not None:
            restarted = self._steps == 0
            reward[restarted], terminated[restarted] = 0.0, False
        truncated = self._steps >= self.horizon_steps
        self._sense(observation, active)
        observation = self._seen(observation)
        self._ended = terminated | truncated
        if self.autoreset is AutoresetMode.SAME_STEP and self._ended.any():
            observation, info = self._restart_now(observation, info)
        return observation, reward, terminated, truncated, info

    def _restart(self, rows: Rows) -> None:
        if len(rows):
            self._start(rows)
            self._steps[rows], self._ended[rows] = 0, False
            self._started = True

    def _restart_now(
        self, observation: NDArray[np.floating], info: dict[str, Any]
    ) -> tuple[NDArray[np.floating], dict[str, Any]]:
        ended = self._ended.copy()
        final_info = {key: value.copy() for key, value in info.items()}
        self._restart(np.flatnonzero(ended))
        fresh = self._observation()
        fresh_info = self._start_info(fresh)
        fresh = self._seen(fresh)
        info = {key: np.where(ended, fresh_info.get(key, value), value) for key, value in info.items()}
        final = {"final_obs": observation, "_final_obs": ended, "final_info": final_info, "_final_info": ended}
        return fresh, info | final

    def state(self) -> State:
        """Everything that the next step depends on, by name; `set_state` goes on from it, bit for bit."""
        if not self._started:
            raise SimulationError("state() before reset(): there are no episodes yet")
        return {
            "physics": self._batch.state.copy(),
            "steps": self._steps.copy(),
            "ended": self._ended.copy(),
            "generators": np.stack([generator_words(rng) for rng in self._rngs]),
        }

    def set_state(self, state: Mapping[str, NDArray]) -> NDArray[np.floating]:
        """Go back to a state of `state()`; returns the observations (N, D) there."""
        missing = sorted(self._state_names() - set(state))
        if missing:
            raise SimulationError(f"the saved state lacks {', '.join(missing)}; it has: {', '.join(sorted(state))}")
        if np.shape(state["physics"]) != self._batch.state.shape:
            raise SimulationError(
                f"the saved state is of {np.shape(state['physics'])} (envs, size), "
                f"these envs have {self._batch.state.shape}"
            )
        self._batch.state[:] = state["physics"]
        self._steps, self._ended = np.array(state["steps"]), np.array(state["ended"])
        self._rngs = [generator_from_words(words) for words in state["generators"]]
        self._started = True
        return self._observation()

    def _state_names(self) -> set[str]:
        return {"physics", "steps", "ended", "generators"}

    def _seeds(self, seed: Seeds) -> NDArray[np.object_]:
        if seed is None or isinstance(seed, int | np.integer):
            seeds = [None if seed is None else int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise SimulationError(f"got {len(seeds)} seeds for {self.num_envs} envs: give one each, or one integer")
        return np.array(seeds, dtype=object)

    def close_extras(self, **kwargs: Any) -> None:
        """Nothing to release: the batch owns memory only."""


def _autoreset_mode(mode: str | AutoresetMode) -> AutoresetMode:
    """gymnasium's enum from it or from its name in lower case."""
    if isinstance(mode, AutoresetMode):
        return mode
    modes = {item.name.lower(): item for item in AutoresetMode}
    if mode not in modes:
        raise SimulationError(f"unknown autoreset mode {mode!r}; available: {', '.join(modes)}")
    return modes[mode]
