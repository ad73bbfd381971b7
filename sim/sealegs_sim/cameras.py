"""EnvCameras: what the cameras of an env deliver, as JPEG files, as the robot node publishes them."""

from __future__ import annotations

from collections.abc import Iterable

from sealegs_contract.cameras import cameras_due
from sealegs_sim.env import SealegsEnv
from sealegs_sim.render import SceneRenderer, jpeg
from sealegs_sim.vector import BatchEnv


class EnvCameras:
    """Renders a SealegsEnv, or every env of a BatchEnv, whenever the robot's cameras take an image.

    The renderer is made at first use. ProfileError for a camera that the robot does not have.
    """

    def __init__(self, env: SealegsEnv | BatchEnv, cameras: Iterable[str]) -> None:
        self._env = env
        self._names = tuple(env.robot.camera(name).name for name in cameras)
        self._renderer: SceneRenderer | None = None

    def take(self, tick: int) -> dict[str, list[bytes]]:
        """Images of the present state, the `tick`-th of an episode: for each camera that is due, one of each env."""
        due = cameras_due(self._env.robot, tick)
        return {name: self._jpegs(name) for name in self._names if name in due}

    def _jpegs(self, camera: str) -> list[bytes]:
        if self._renderer is None:
            self._renderer = SceneRenderer(self._env.scene)
        if isinstance(self._env, BatchEnv):
            poses = list(zip(*self._env.poses(), strict=True))
        else:
            data = self._env.simulation.data
            poses = [(data.qpos, data.mocap_pos, data.mocap_quat)]
        return [jpeg(self._renderer.render_state(qpos, camera, *mocap)) for qpos, *mocap in poses]

    def close(self) -> None:
        """Free the renderer; safe to call twice."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
