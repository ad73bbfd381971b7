"""LocomotionEnv: a walker's vector env; row by row it is `gymnasium.make(task)`, several times faster."""

from __future__ import annotations

from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from sealegs_contract.errors import ActionError
from sealegs_sim.batched import BatchedEnv, Rows
from sealegs_sim.locomotion.model import load_model
from sealegs_sim.locomotion.tasks import LocomotionTask, control_cost, forward_velocity, get_locomotion


class LocomotionEnv(BatchedEnv):
    """Observations (N, D) float64, actions (N, J) in [-1, 1], which are not clipped before the control cost.

    Env i, reset with seed s, gives the observations and rewards of gymnasium.make(task) after reset(seed=s) under the
    same actions. info: `x_position` m, `x_velocity` m/s, `reward_ctrl`, `reward_survive`, all (N,).
    """

    def __init__(
        self,
        task: str | LocomotionTask = "HalfCheetah-v5",
        num_envs: int = 1,
        threads: int = 1,
        autoreset: str | AutoresetMode = AutoresetMode.NEXT_STEP,
    ) -> None:
        self.task = get_locomotion(task)
        model = load_model(self.task.path)
        super().__init__(model, num_envs, threads, autoreset, self.task.horizon_steps)
        self._init_qpos, self._init_qvel = model.qpos0.copy(), np.zeros(model.nv)
        self._period_s = model.opt.timestep * self.task.frame_skip
        self._x_before = np.zeros(num_envs)
        size = model.nq - 1 + model.nv
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float64)
        low, high = model.actuator_ctrlrange.astype(np.float32).T
        self.single_action_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def _start(self, rows: Rows) -> None:
        self._batch.reset(ids=rows, stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        for row in rows:
            start = self.task.start(self._init_qpos, self._init_qvel, self._rngs[row])
            self._qpos[row], self._qvel[row] = start
        # gymnasium runs a whole mj_forward here, which decides the first warm start of the solver.
        self._batch.forward(ids=rows)

    def _advance(self, actions: NDArray[np.floating], active: Rows | None) -> None:
        if np.shape(actions) != self._ctrl.shape:
            raise ActionError(f"actions have shape {np.shape(actions)}, expected {self._ctrl.shape}")
        self._x_before = self._qpos[:, 0].copy()
        self._ctrl[:] = actions
        self._batch.step(ids=active, nstep=self.task.frame_skip)

    def _observation(self) -> NDArray[np.float64]:
        limit, positions = self.task.velocity_clip, self._qpos.shape[1] - 1
        observation = np.empty((self.num_envs, positions + self._qvel.shape[1]))
        observation[:, :positions] = self._qpos[:, 1:]
        observation[:, positions:] = self._qvel
        if limit < np.inf:
            speeds = observation[:, positions:]
            np.minimum(np.maximum(speeds, -limit, out=speeds), limit, out=speeds)
        return observation

    def _start_info(self, observation: NDArray[np.floating]) -> dict[str, Any]:
        zero = np.zeros(self.num_envs)
        x = self._qpos[:, 0].copy()
        return {"x_position": x, "x_velocity": zero, "reward_ctrl": zero, "reward_survive": zero}

    def _outcome(
        self, actions: NDArray[np.floating], observation: NDArray[np.floating], active: Rows | None
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], dict[str, Any]]:
        task, x = self.task, self._qpos[:, 0].copy()
        velocity = forward_velocity(self._x_before, x, self._period_s)
        cost = control_cost(actions, task.ctrl_cost_weight)
        healthy = task.healthy(self._qpos, self._qvel)
        survive = task.healthy_reward * healthy
        info = {"x_position": x, "x_velocity": velocity, "reward_ctrl": -cost, "reward_survive": survive}
        return velocity + survive - cost, ~healthy, info
