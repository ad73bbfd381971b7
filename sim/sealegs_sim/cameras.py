"""EnvCameras: what the cameras of an env deliver, as JPEG files, as the robot node publishes them."""

from __future__ import annotations

from sealegs_sim.env import SealegsEnv
from sealegs_sim.render import SceneRenderer, jpeg
from sealegs_sim.vector import BatchEnv


class EnvCameras:
    """Renders the present state of a SealegsEnv, or of every env of a BatchEnv. The renderer is made at first use."""

    def __init__(self, env: SealegsEnv | BatchEnv) -> None:
        self._env = env
        self._renderer: SceneRenderer | None = None

    def jpegs(self, camera: str) -> list[bytes]:
        """One image of the camera's own size for each env. ProfileError for a camera that the robot does not have."""
        self._env.robot.camera(camera)
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
