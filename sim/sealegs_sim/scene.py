"""Scene: a task's MuJoCo model with the profile's limits and cameras, and where everything is in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import SimulationError, available
from sealegs_contract.robot import RobotProfile, load_robot
from sealegs_contract.spec import ActionSpec, ObservationSpec
from sealegs_sim.randomize import ranges_of
from sealegs_sim.tasks import Task, get_task

IntArray = NDArray[np.intp]
SHIPPED_MODELS = ("so101",)


@dataclass(frozen=True, eq=False)
class Scene:
    """A compiled scene. Index arrays follow `robot.joints`; object sites carry the objects' names.

    The robot's base_link is the world's origin, so site positions are already in the profile's base frame.
    """

    task: Task
    robot: RobotProfile
    model: mujoco.MjModel
    joint_qpos: IntArray
    joint_dof: IntArray
    actuator: IntArray
    substeps: int

    @cached_property
    def object_sites(self) -> dict[str, int]:
        """Site id of every object of the profile that this scene has."""
        ids = {name: mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_SITE, name) for name in self.robot.objects}
        return {name: site for name, site in ids.items() if site >= 0}

    @cached_property
    def task_sites(self) -> IntArray:
        """Site ids of the task's objects, in their order in the observation."""
        return np.array([self.object_sites[name] for name in self.task.objects])

    @cached_property
    def observation_spec(self) -> ObservationSpec:
        """The task's observation of this robot."""
        return self.task.observation_spec(self.robot)

    @cached_property
    def action_spec(self) -> ActionSpec:
        """The task's actions on this robot."""
        return self.task.action_spec(self.robot)

    def observation(
        self, qpos: NDArray[np.float64], qvel: NDArray[np.float64], site_xpos: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Observation vectors (..., D) from qpos (..., nq), qvel (..., nv) and site positions (..., nsite, 3)."""
        objects = site_xpos[..., self.task_sites, :]
        objects = objects.reshape(*objects.shape[:-2], -1)
        parts = [qpos[..., self.joint_qpos], qvel[..., self.joint_dof], objects]
        return np.concatenate(parts, axis=-1).astype(np.float32)

    def joint_address(self, name: str) -> int:
        """Where a scene joint's coordinates begin in qpos."""
        return int(self.model.joint(name).qposadr[0])


def field_of_view_deg(height: int, focal_px: float) -> float:
    """Vertical field of view of a pinhole camera: 2 atan(h / 2 f)."""
    return math.degrees(2.0 * math.atan(0.5 * height / focal_px))


def build_scene(task: str | Task, robot: str | RobotProfile = "so101") -> Scene:
    """Compile a task's scene for a robot. Raises SimulationError where model and profile do not fit each other."""
    task = get_task(task)
    profile = robot if isinstance(robot, RobotProfile) else load_robot(robot)
    if profile.mjcf not in SHIPPED_MODELS:
        raise SimulationError(
            f"robot {profile.name} names the model {profile.mjcf!r}, which the simulator does not have; "
            f"{available(SHIPPED_MODELS)}"
        )
    ranges_of(profile)  # a misspelt knob is an error wherever the profile is simulated, not at its first use
    path = Path(str(resources.files("sealegs_sim"))) / "assets" / f"{task.name}.xml"
    try:
        model = mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        raise SimulationError(f"{path} does not compile: {error}") from error
    # A diverged simulation shall say so, and not silently start over.
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    joints = np.array([_named(model, mujoco.mjtObj.mjOBJ_JOINT, name) for name in profile.joint_names])
    actuators = np.array([_named(model, mujoco.mjtObj.mjOBJ_ACTUATOR, name) for name in profile.joint_names])
    _apply_profile(model, profile, joints, actuators)
    substeps = round(1.0 / (profile.control_rate_hz * model.opt.timestep))
    if not math.isclose(substeps * model.opt.timestep * profile.control_rate_hz, 1.0, rel_tol=1e-9):
        raise SimulationError(
            f"a control period of {1e3 / profile.control_rate_hz:.6g} ms is no multiple of the simulator's "
            f"{1e3 * model.opt.timestep:.6g} ms"
        )
    return Scene(task, profile, model, model.jnt_qposadr[joints], model.jnt_dofadr[joints], actuators, substeps)


def _apply_profile(model: mujoco.MjModel, profile: RobotProfile, joints: IntArray, actuators: IntArray) -> None:
    """The profile's limits and camera intrinsics win over the file's."""
    for joint, actuator, limits in zip(joints, actuators, profile.joints, strict=True):
        model.jnt_range[joint] = model.actuator_ctrlrange[actuator] = (limits.position_min_rad, limits.position_max_rad)
        model.actuator_forcerange[actuator] = (-limits.effort_max_n_m, limits.effort_max_n_m)
    for camera in profile.cameras:
        index = _named(model, mujoco.mjtObj.mjOBJ_CAMERA, camera.name)
        model.cam_fovy[index] = field_of_view_deg(camera.height, camera.fy)


def _named(model: mujoco.MjModel, kind: mujoco.mjtObj, name: str) -> int:
    """Id of a joint, actuator or camera by name; SimulationError lists those of its kind."""
    index = int(mujoco.mj_name2id(model, kind, name))
    if index < 0:
        word, count = {
            int(mujoco.mjtObj.mjOBJ_JOINT): ("joint", model.njnt),
            int(mujoco.mjtObj.mjOBJ_CAMERA): ("camera", model.ncam),
        }.get(int(kind), ("actuator", model.nu))
        names = (mujoco.mj_id2name(model, kind, i) for i in range(count))
        raise SimulationError(f"the model has no {word} {name!r}; {available(names)}")
    return index
