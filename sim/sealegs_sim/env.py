"""SealegsEnv: a task as a gymnasium env."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from sealegs_contract.episode import SuccessMonitor
from sealegs_contract.errors import SimulationError
from sealegs_contract.robot import RobotProfile
from sealegs_sim.control import JointControl
from sealegs_sim.delays import DelayLine, Delays
from sealegs_sim.opengl import has_display, require_display
from sealegs_sim.scene import Scene, build_scene
from sealegs_sim.simulation import Simulation
from sealegs_sim.tasks import Task

RENDER_MODES = ("rgb_array", "human")


class SealegsEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """One robot, one task. Observation (D,) float32 as the task's spec; action (J,) in [-1, 1].

    The action is scaled, added to the previous guarded target, and guarded by the robot's limits, as on the robot.
    reward = progress of the state after the action; never terminated (a time limit is not a terminal); truncated at the
    task's horizon. info: `progress`, `achieved` now, `success` once achieved for `hold_steps` in a row in this episode.
    With `delays` the policy sees late and acts late; reward and info stay those of the true state.
    """

    # `human` is offered only where a window can be opened, so that env checkers pass on machines without a display.
    metadata = {"render_modes": list(RENDER_MODES[: 2 if has_display() else 1]), "render_fps": 50}  # noqa: RUF012

    def __init__(
        self,
        task: str | Task = "drawer",
        robot: str | RobotProfile = "so101",
        render_mode: str | None = None,
        camera: str = "front",
        delays: Delays | None = None,
    ) -> None:
        if render_mode not in (None, *RENDER_MODES):
            raise SimulationError(f"unknown render_mode {render_mode!r}; available: {', '.join(RENDER_MODES)}")
        if render_mode == "human":
            require_display("render_mode='human'")
        self.scene: Scene = build_scene(task, robot)
        self.task = self.scene.task
        self.robot = self.scene.robot
        self.robot.camera(camera)
        self.simulation = Simulation(self.scene)
        self.control = JointControl(self.robot, self.scene.action_spec)
        self._spec = self.scene.observation_spec
        self._monitor = SuccessMonitor(self.task.hold_steps)
        self._line = None
        if delays is not None:
            self._line = DelayLine(self.robot, delays, 1, self.task.horizon_steps, self._spec.size)
        self._started = False
        self.render_mode = render_mode
        self.camera = camera
        self._renderer: Any = None
        self._viewer: Any = None
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (self._spec.size,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (len(self.robot.joints),), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode; the seed decides the start."""
        super().reset(seed=seed)
        self.simulation.reset(self.np_random)
        self.control.reset(self.simulation.position)
        self._monitor.reset()
        self._started = True
        observation = self.simulation.observation()
        info = self._info(observation)[1]
        if self._line is not None:
            start = observation[None], self.simulation.position[None]
            self._line.restart(np.zeros(1, dtype=np.intp), [self.np_random], *start)
            observation = self._line.view()[0]
        return observation, info

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One control period. Raises ActionError on a bad action, SimulationError if the physics diverges."""
        if not self._started:
            raise SimulationError("step() before reset(): there is no episode yet")
        self.simulation.step(self._targets(action))
        observation = self.simulation.observation()
        progress, info = self._info(observation)
        info["success"] = self._monitor.update(info["achieved"])
        if self._line is not None:
            steps = np.array([self.simulation.steps])
            self._line.sense(observation[None], self.simulation.position[None], steps, None)
            observation = self._line.view()[0]
        if self.render_mode == "human":
            self.render()
        return observation, progress, False, self.simulation.steps >= self.task.horizon_steps, info

    def _targets(self, action: NDArray[np.float32]) -> NDArray[np.float64]:
        """What the robot follows in this period, (J,) rad."""
        if self._line is None:
            return self.control.targets(action, self.simulation.position)
        targets = self.control.targets(action, self._line.measured()[0])
        followed = self._line.send(targets[None], np.array([self.simulation.steps]), None)
        return np.asarray(followed[0])

    def _info(self, observation: NDArray[np.float32]) -> tuple[float, dict[str, Any]]:
        fields = self._spec.split(observation)
        progress = float(self.task.progress(fields))
        return progress, {"progress": progress, "achieved": bool(self.task.achieved(fields)), "success": False}

    def render(self) -> NDArray[np.uint8] | None:
        """`rgb_array`: the camera's image (height, width, 3). `human`: refresh the viewer's window."""
        if self.render_mode == "rgb_array":
            if self._renderer is None:
                from sealegs_sim.render import SceneRenderer

                self._renderer = SceneRenderer(self.scene)
            image: NDArray[np.uint8] = self._renderer.render(self.simulation.data, self.camera)
            return image
        if self.render_mode == "human":
            if self._viewer is None:
                from sealegs_sim.viewer import Viewer

                self._viewer = Viewer(self.simulation)
            self._viewer.sync()
        return None

    @property
    def viewer_open(self) -> bool:
        """Whether the `human` window is there and has not been closed by the user."""
        return self._viewer is not None and bool(self._viewer.is_open)

    def close(self) -> None:
        """Release the renderer and the window."""
        for resource in (self._renderer, self._viewer):
            if resource is not None:
                resource.close()
        self._renderer = self._viewer = None
