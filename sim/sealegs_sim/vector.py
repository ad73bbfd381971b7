"""BatchEnv: many copies of a task on `mujoco.batch`, with the semantics of SealegsEnv."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from sealegs_contract.errors import SimulationError
from sealegs_contract.robot import RobotProfile
from sealegs_sim.batched import BatchedEnv, Rows, State
from sealegs_sim.control import JointControl
from sealegs_sim.delays import STATE_NAMES, DelayLine, Delays, delays_of
from sealegs_sim.randomize import Randomizer, ranges_of
from sealegs_sim.scene import build_scene
from sealegs_sim.simulation import diverged
from sealegs_sim.starts import DEFAULT_RANGES, StartRanges, sample_start
from sealegs_sim.tasks import Task

POSITION_STAGE = int(mujoco.mjtStage.mjSTAGE_POS)


class BatchEnv(BatchedEnv):
    """`num_envs` independent copies of SealegsEnv(task, robot), stepped together on `threads` threads.

    Env i, reset with seed s, gives exactly the observations and rewards that SealegsEnv gives after reset(seed=s) under
    the same actions, unless `randomise` draws every episode's robot from its profile's ranges (see `randomize`), which
    are then `ranges`. With `delays` policies see late and act late; rewards and info stay those of the true state.
    `randomise` takes them from the profile where it has some. Seeds and autoreset: see BatchedEnv.
    """

    def __init__(
        self,
        task: str | Task = "drawer",
        num_envs: int = 1,
        robot: str | RobotProfile = "so101",
        threads: int = 1,
        autoreset: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        randomise: bool = False,
        delays: Delays | None = None,
        starts: StartRanges = DEFAULT_RANGES,
    ) -> None:
        self.scene, self._starts = build_scene(task, robot), starts
        self.task, self.robot = self.scene.task, self.scene.robot
        super().__init__(self.scene.model, num_envs, threads, autoreset, self.task.horizon_steps)
        self._spec = self.scene.observation_spec
        self.control = JointControl(self.robot, self.scene.action_spec, num_envs)
        self._mocap_pos, self._mocap_quat = (self._batch.bind(name) for name in ("mocap_pos", "mocap_quat"))
        self._site_xpos = self._batch.bind("site_xpos")
        self.ranges = ranges_of(self.robot) if randomise else {}
        self._randomizer = Randomizer(self._batch, self.scene.model, self.ranges) if self.ranges else None
        self.delays = delays_of(self.robot) if delays is None and randomise else delays
        sizes = num_envs, self.horizon_steps, self._spec.size
        self._line = None if self.delays is None else DelayLine(self.robot, self.delays, *sizes)
        self._run = np.zeros(num_envs, dtype=np.int64)
        self._success = np.zeros(num_envs, dtype=bool)
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (self._spec.size,), np.float32)
        self.single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (len(self.robot.joints),), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def _advance(self, actions: NDArray[np.floating], active: Rows | None) -> None:
        """Guarded targets, then physics, for the active rows; the restarted ones stand still."""
        actions = np.asarray(actions, dtype=np.float64)
        line = self._line
        position = self._qpos[:, self.scene.joint_qpos] if line is None else line.measured()
        if active is not None:
            actions = actions.copy()
            actions[self._steps == 0] = 0.0  # its guard is at rest at the measured pose: zero keeps it there
        targets = self.control.targets(actions, position)
        self._ctrl[:, self.scene.actuator] = targets if line is None else line.send(targets, self._steps, active)
        if active is None or len(active):
            self._batch.step(ids=active, nstep=self.scene.substeps, stage=POSITION_STAGE)
        bad = np.flatnonzero(diverged(self._qpos, self._qvel))
        if len(bad):
            raise SimulationError(
                f"the simulation of {self.task.name} diverged in env {bad[0]} at control step {self._steps[bad[0]] + 1}"
            )

    def _start(self, rows: Rows) -> None:
        """Simulation.start's twin."""
        self._batch.reset(ids=rows, stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        for row in rows:
            start = sample_start(self.scene, self._rngs[row], self._starts)
            self._qpos[row], self._mocap_pos[row], self._mocap_quat[row] = start.qpos, start.mocap_pos, start.mocap_quat
            self._ctrl[row, self.scene.actuator] = start.qpos[self.scene.joint_qpos]
        if self._randomizer is not None:
            self._randomizer.draw(rows, self._rngs)
        self._batch.forward(ids=rows, stage=POSITION_STAGE)
        measured = self._qpos[:, self.scene.joint_qpos]
        if self._started:
            self.control.reset(measured[rows], rows)
        else:
            self.control.reset(measured)
        self._run[rows], self._success[rows] = 0, False
        if self._line is not None:
            self._line.restart(rows, self._rngs, self._observation(), measured)

    def _sense(self, observation: NDArray[np.floating], active: Rows | None) -> None:
        if self._line is not None:
            self._line.sense(observation, self._qpos[:, self.scene.joint_qpos], self._steps, active)

    def _seen(self, observation: NDArray[np.floating]) -> NDArray[np.floating]:
        return observation if self._line is None else self._line.view()

    def _observation(self) -> NDArray[np.float32]:
        return self.scene.observation(self._qpos, self._qvel, self._site_xpos)

    def _start_info(self, observation: NDArray[np.floating]) -> dict[str, Any]:
        return self._info(observation)[1]

    def _outcome(
        self, actions: NDArray[np.floating], observation: NDArray[np.floating], active: Rows | None
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], dict[str, Any]]:
        """Reward = progress after the action; never terminated: a time limit is not a terminal."""
        progress, info = self._info(observation)
        run = np.where(info["achieved"], self._run + 1, 0)
        self._run = run if active is None else np.where(self._steps > 0, run, self._run)
        self._success |= self._run >= self.task.hold_steps
        info["success"] = self._success.copy()
        return progress, np.zeros(self.num_envs, dtype=bool), info

    def _info(self, observation: NDArray[np.floating]) -> tuple[NDArray[np.float64], dict[str, Any]]:
        fields = self._spec.split(observation)
        progress = np.asarray(self.task.progress(fields), dtype=np.float64)
        return progress, {
            "progress": progress.copy(),
            "achieved": self.task.achieved(fields),
            "success": self._success.copy(),
        }

    def poses(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """What a renderer needs of every env: qpos (N, nq), mocap positions (N, nmocap, 3) and quaternions."""
        return self._qpos, self._mocap_pos, self._mocap_quat

    def state(self) -> State:
        """See BatchedEnv; the guard's history, the success counters and the drawn robots belong to it."""
        drawn = {} if self._randomizer is None else {"randomization": self._randomizer.factors.copy()}
        drawn |= {} if self._line is None else self._line.state()
        return (
            super().state()
            | drawn
            | {
                "guard": np.ascontiguousarray(self.control.guard.save().swapaxes(0, 1)),  # by env
                "run": self._run.copy(),
                "success": self._success.copy(),
            }
        )

    def set_state(self, state: Mapping[str, NDArray]) -> NDArray[np.floating]:
        """See BatchedEnv."""
        super().set_state(state)
        if self._randomizer is not None:
            self._randomizer.factors[:] = state["randomization"]
            self._randomizer.apply(np.arange(self.num_envs))
        self._batch.forward(stage=POSITION_STAGE)  # the sites' positions, which the observation reads
        self.control.guard.restore(state["guard"].swapaxes(0, 1))
        self._run, self._success = np.array(state["run"]), np.array(state["success"])
        if self._line is not None:
            self._line.set_state(state)
        return self._seen(self._observation())

    def _state_names(self) -> set[str]:
        drawn = set() if self._randomizer is None else {"randomization"}
        drawn |= set() if self._line is None else set(STATE_NAMES)
        return super()._state_names() | drawn | {"guard", "run", "success"}
