"""Simulation: one robot in one scene, stepped by control periods under guarded joint targets."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import SimulationError
from sealegs_sim.scene import Scene
from sealegs_sim.starts import Start, sample_start

FloatArray = NDArray[np.float64]
MAXIMUM_SPEED = 1e3  # rad/s or m/s: no part of these scenes moves that fast unless the integration has diverged
STATE = mujoco.mjtState.mjSTATE_INTEGRATION


def diverged(qpos: FloatArray, qvel: FloatArray) -> NDArray[np.bool_]:
    """Whether states (..., nq), (..., nv) hold values that are not finite, or absurd speeds; (...)."""
    sane = np.isfinite(qpos).all(axis=-1) & (np.abs(qvel) < MAXIMUM_SPEED).all(axis=-1)
    return np.asarray(~sane)


class Simulation:
    """The world of `SealegsEnv` and of `MujocoBackend`. Positions in rad and m, base_link frame."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.data = mujoco.MjData(scene.model)
        self.steps = 0

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode at a random start."""
        self.start(sample_start(self.scene, rng))

    def start(self, start: Start) -> None:
        """Start an episode at a given state, at rest, holding the measured joint positions."""
        mujoco.mj_resetData(self.scene.model, self.data)
        self.data.qpos[:] = start.qpos
        self.data.mocap_pos[:] = start.mocap_pos
        self.data.mocap_quat[:] = start.mocap_quat
        self.data.ctrl[self.scene.actuator] = start.qpos[self.scene.joint_qpos]
        self.steps = 0
        mujoco.mj_kinematics(self.scene.model, self.data)

    def step(self, targets: FloatArray) -> None:
        """One control period under joint targets (J,) rad. Raises SimulationError if the integration diverges."""
        self.data.ctrl[self.scene.actuator] = targets
        mujoco.mj_step(self.scene.model, self.data, nstep=self.scene.substeps)
        # mj_step leaves derived positions one substep behind.
        mujoco.mj_kinematics(self.scene.model, self.data)
        self.steps += 1
        if diverged(self.data.qpos, self.data.qvel):
            raise SimulationError(
                f"the simulation of task {self.scene.task.name} diverged at control step {self.steps}"
            )

    @property
    def position(self) -> FloatArray:
        """Joint positions (J,) rad."""
        return np.asarray(self.data.qpos[self.scene.joint_qpos])

    @property
    def velocity(self) -> FloatArray:
        """Joint velocities (J,) rad/s."""
        return np.asarray(self.data.qvel[self.scene.joint_dof])

    @property
    def effort(self) -> FloatArray:
        """Servo torques (J,) N m."""
        return np.asarray(self.data.qfrc_actuator[self.scene.joint_dof])

    def object_position(self, name: str) -> FloatArray:
        """Position (3,) m of an object of the profile."""
        return np.array(self.data.site_xpos[self.scene.object_sites[name]])

    def object_quaternion_xyzw(self, name: str) -> FloatArray:
        """Orientation of an object as unit quaternion x, y, z, w."""
        wxyz = np.empty(4)
        mujoco.mju_mat2Quat(wxyz, self.data.site_xmat[self.scene.object_sites[name]])
        return wxyz[[1, 2, 3, 0]]

    def observation(self) -> NDArray[np.float32]:
        """The task's observation vector (D,)."""
        return self.scene.observation(self.data.qpos, self.data.qvel, self.data.site_xpos)

    def state(self) -> FloatArray:
        """Everything that the next step depends on, as one vector; `set_state` restores it exactly."""
        state = np.empty(mujoco.mj_stateSize(self.scene.model, STATE))
        mujoco.mj_getState(self.scene.model, self.data, state, STATE)
        return state

    def set_state(self, state: FloatArray) -> None:
        """Go back to a state of `state()`."""
        mujoco.mj_setState(self.scene.model, self.data, state, STATE)
        mujoco.mj_kinematics(self.scene.model, self.data)
