"""MujocoBackend: the simulated robot behind the robot node's protocol, over the same Simulation as the env."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import BackendError, SimulationError
from sealegs_contract.robot import RobotProfile, load_robot
from sealegs_contract.sample import ImageSample, JointSample, PoseSample
from sealegs_sim.render import SceneRenderer, check_cameras, jpeg
from sealegs_sim.scene import build_scene
from sealegs_sim.simulation import Simulation
from sealegs_sim.tasks import Task
from sealegs_sim.viewer import Viewer

FloatArray = NDArray[np.float64]


class MujocoBackend:
    """RobotBackend in simulation. `reset(seed)` starts exactly as `SealegsEnv.reset(seed=seed)`.

    Time is simulated: it advances by one control period with `advance()` and goes on across resets, so stamps never
    repeat. A start stands still until the first `write`, as the env's does until its first step: however long it takes
    to arm a policy, the arm does not sag meanwhile. The renderer is made at the first image; `render=False` delivers no
    images at all. `viewer` opens a window at connect().
    """

    simulated = True

    def __init__(
        self,
        profile: str | RobotProfile,
        task: str | Task,
        seed: int | None = 0,
        render: bool = True,
        viewer: bool = False,
    ) -> None:
        self.profile = profile if isinstance(profile, RobotProfile) else load_robot(profile)
        self.scene = build_scene(task, self.profile)
        self.task = self.scene.task
        self.simulation = Simulation(self.scene)
        self._render = render
        self._renderer: SceneRenderer | None = None
        self._wants_viewer = viewer
        self._viewer: Viewer | None = None
        self._rng = np.random.default_rng(seed)
        self._tick = 0
        self._episodes = 0
        self._connected = False
        self._standing = True
        self._targets = self.profile.home_rad
        self.reset(seed)

    def connect(self) -> None:
        """Enable the robot at its present pose; it does not move."""
        self._targets = self.simulation.position
        if self._wants_viewer and self._viewer is None:
            self._viewer = Viewer(self.simulation)
        self._connected = True

    def close(self) -> None:
        """Release the renderer and the window; safe to call twice."""
        for resource in (self._renderer, self._viewer):
            if resource is not None:
                resource.close()
        self._renderer = self._viewer = None
        self._connected = False

    def now_ns(self) -> int:
        """Simulated time, ns."""
        return self._tick * self.profile.control_period_ns

    def read(self) -> JointSample:
        """Measured joints: (J,) rad, rad/s, N m."""
        simulation = self.simulation
        return JointSample(
            self.now_ns(), self.profile.joint_names, simulation.position, simulation.velocity, simulation.effort
        )

    def write(self, position: FloatArray) -> None:
        """Targets (J,) rad for the coming periods. Raises BackendError unless connected, finite and of that shape."""
        position = np.asarray(position, dtype=np.float64)
        if not self._connected:
            raise BackendError("write() before connect(): the simulated robot is not enabled")
        if position.shape != self._targets.shape or not np.isfinite(position).all():
            raise BackendError(f"targets must be {self._targets.shape} finite values in rad, got {position.tolist()}")
        self._targets = position.copy()
        self._standing = False

    def advance(self) -> None:
        """One control period of physics; of time alone before the first `write` of an episode.

        Raises BackendError if the simulation diverges; reset() recovers.
        """
        try:
            if not self._standing:
                self.simulation.step(self._targets)
        except SimulationError as error:
            raise BackendError(f"{error}; reset starts a new episode") from error
        self._tick += 1
        if self._viewer is not None:
            self._viewer.sync()

    def object_poses(self) -> Sequence[PoseSample]:
        """Poses of the scene's objects in the base frame."""
        return [
            PoseSample(
                self.now_ns(),
                name,
                self.profile.base_frame,
                self.simulation.object_position(name),
                self.simulation.object_quaternion_xyzw(name),
            )
            for name in self.scene.object_sites
        ]

    def images(self, cameras: Sequence[str]) -> Sequence[ImageSample]:
        """JPEG images of the present state; empty where the backend was made with render=False.

        Raises SimulationError for an unknown camera, MachineError where this machine cannot render.
        """
        check_cameras(self.scene, tuple(cameras))
        if not self._render or not cameras:
            return []
        if self._renderer is None:
            self._renderer = SceneRenderer(self.scene)
        data = self.simulation.data
        return [ImageSample(self.now_ns(), name, jpeg(self._renderer.render(data, name))) for name in cameras]

    def reset(self, seed: int | None = None) -> None:
        """Start a new episode: with a seed as the env does, without one at the next start of the present generator."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self.simulation.reset(self._rng)
        self._targets = self.simulation.position
        self._standing = True
        self._tick += 1 if self._episodes else 0  # a new state never shares its stamp with an old one
        self._episodes += 1

    def health(self) -> Mapping[str, str]:
        """Counters for /diagnostics."""
        return {
            "backend": "mujoco",
            "task": self.task.name,
            "episodes": str(self._episodes),
            "episode_steps": str(self.simulation.steps),
            "rendering": "on" if self._render else "off",
        }
