"""BatchEnv: many copies of a task on `mujoco.batch`, with the semantics of SealegsEnv."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import mujoco
import mujoco.batch
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from sealegs_contract.errors import SimulationError
from sealegs_contract.robot import RobotProfile
from sealegs_sim.control import JointControl
from sealegs_sim.scene import build_scene
from sealegs_sim.simulation import diverged
from sealegs_sim.starts import sample_start
from sealegs_sim.tasks import Task

POSITION_STAGE = int(mujoco.mjtStage.mjSTAGE_POS)
Seeds = int | Sequence[int | None] | None


class BatchEnv(gymnasium.vector.VectorEnv):
    """`num_envs` independent copies of SealegsEnv(task, robot), stepped together on `threads` threads.

    Env i, reset with seed s, gives exactly the observations and rewards that SealegsEnv gives after reset(seed=s) under
    the same actions. Autoreset follows gymnasium: `next_step` (default; the step after an episode's end ignores its
    action and returns the new start with reward 0), `same_step` (the new start at once, the last observation in
    info["final_obs"]), or `disabled` (reset by hand: options={"reset_mask": (num_envs,) bool}).
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 - gymnasium's declaration

    def __init__(
        self,
        task: str | Task = "drawer",
        num_envs: int = 1,
        robot: str | RobotProfile = "so101",
        threads: int = 1,
        autoreset: str | AutoresetMode = AutoresetMode.NEXT_STEP,
    ) -> None:
        if num_envs < 1 or threads < 1:
            raise SimulationError(f"num_envs and threads must be at least 1, got {num_envs} and {threads}")
        self.scene = build_scene(task, robot)
        self.task, self.robot, self.num_envs = self.scene.task, self.scene.robot, num_envs
        self.autoreset = _autoreset_mode(autoreset)
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset}
        self._spec = self.scene.observation_spec
        self.control = JointControl(self.robot, self.scene.action_spec, num_envs)
        self._batch = mujoco.batch.Batch(self.scene.model, nsim=num_envs, nthread=threads)
        self._qpos, self._qvel, self._ctrl = (self._batch.bind(name) for name in ("qpos", "qvel", "ctrl"))
        self._mocap_pos, self._mocap_quat = (self._batch.bind(name) for name in ("mocap_pos", "mocap_quat"))
        self._site_xpos = self._batch.bind("site_xpos")
        self._rngs: list[np.random.Generator | None] = [None] * num_envs
        self._steps = np.zeros(num_envs, dtype=np.int64)
        self._run = np.zeros(num_envs, dtype=np.int64)
        self._success = np.zeros(num_envs, dtype=bool)
        self._ended = np.zeros(num_envs, dtype=bool)
        self._started = False
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (self._spec.size,), np.float32)
        self.single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (len(self.robot.joints),), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: Seeds = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
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
        self._start(rows)
        observation = self._observation()
        return observation, self._info(observation)[1]

    def step(self, actions: NDArray[np.floating]) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One control period of all envs: observations (N, D), rewards, terminated, truncated (N,), info of (N,)."""
        if not self._started:
            raise SimulationError("step() before reset(): there are no episodes yet")
        restart = self._ended & (self.autoreset is AutoresetMode.NEXT_STEP)
        if restart.any():
            self._start(np.flatnonzero(restart))
        active = np.flatnonzero(~restart)
        self._advance(actions, active, bool(restart.any()))
        observation = self._observation()
        progress, info = self._info(observation)
        self._run[active] = np.where(info["achieved"][active], self._run[active] + 1, 0)
        self._success |= self._run >= self.task.hold_steps
        info["success"] = self._success.copy()
        reward = np.where(restart, 0.0, progress)
        self._ended = self._steps >= self.task.horizon_steps
        truncated = self._ended.copy()
        if self.autoreset is AutoresetMode.SAME_STEP and truncated.any():
            observation, info = self._restart_now(truncated, observation, info)
        return observation, reward, np.zeros(self.num_envs, dtype=bool), truncated, info

    def _advance(self, actions: NDArray[np.floating], active: NDArray[np.intp], some_restarted: bool) -> None:
        """Guarded targets, then physics, for the active rows; the restarted ones stand still."""
        actions = np.asarray(actions, dtype=np.float64)
        position = self._qpos[:, self.scene.joint_qpos]
        if some_restarted:
            actions = actions.copy()
            actions[self._steps == 0] = 0.0  # its guard is at rest at the measured pose: zero keeps it there
        self._ctrl[:, self.scene.actuator] = self.control.targets(actions, position)
        if len(active):
            self._batch.step(ids=active if some_restarted else None, nstep=self.scene.substeps, stage=POSITION_STAGE)
            self._steps[active] += 1
        bad = np.flatnonzero(diverged(self._qpos, self._qvel))
        if len(bad):
            raise SimulationError(
                f"the simulation of {self.task.name} diverged in env {bad[0]} at control step {self._steps[bad[0]]}"
            )

    def _start(self, rows: NDArray[np.intp]) -> None:
        """New starts for some envs; Simulation.start's twin."""
        if not len(rows):
            return
        self._batch.reset(ids=rows, stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        for row in rows:
            rng = self._rngs[row]
            if rng is None:
                rng = self._rngs[row] = np.random.default_rng()
            start = sample_start(self.scene, rng)
            self._qpos[row], self._mocap_pos[row], self._mocap_quat[row] = start.qpos, start.mocap_pos, start.mocap_quat
            self._ctrl[row, self.scene.actuator] = start.qpos[self.scene.joint_qpos]
        self._batch.forward(ids=rows, stage=POSITION_STAGE)
        measured = self._qpos[:, self.scene.joint_qpos]
        if self._started:
            self.control.reset(measured[rows], rows)
        else:
            self.control.reset(measured)
        self._steps[rows] = self._run[rows] = 0
        self._success[rows] = self._ended[rows] = False
        self._started = True

    def _restart_now(
        self, ended: NDArray[np.bool_], observation: NDArray[np.float32], info: dict[str, Any]
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        final_info = {key: value.copy() for key, value in info.items()}
        self._start(np.flatnonzero(ended))
        self._ended = np.zeros(self.num_envs, dtype=bool)
        fresh = self._observation()
        fresh_info = self._info(fresh)[1]
        info = {key: np.where(ended, fresh_info[key], value) for key, value in info.items()}
        info |= {
            "final_obs": observation,
            "_final_obs": ended.copy(),
            "final_info": final_info,
            "_final_info": ended.copy(),
        }
        return fresh, info

    def _observation(self) -> NDArray[np.float32]:
        return self.scene.observation(self._qpos, self._qvel, self._site_xpos)

    def _info(self, observation: NDArray[np.float32]) -> tuple[NDArray[np.float64], dict[str, Any]]:
        fields = self._spec.split(observation)
        progress = np.asarray(self.task.progress(fields), dtype=np.float64)
        return progress, {
            "progress": progress.copy(),
            "achieved": self.task.achieved(fields),
            "success": self._success.copy(),
        }

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
