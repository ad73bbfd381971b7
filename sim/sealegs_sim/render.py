"""SceneRenderer: camera images without a screen, cheaply (OSMesa: no shadows, no reflections, no multisampling)."""

from __future__ import annotations

import copy
import io
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import MachineError, SimulationError, available
from sealegs_sim.opengl import FIX, require_opengl
from sealegs_sim.scene import Scene

Image = NDArray[np.uint8]
JPEG_QUALITY = 85


class SceneRenderer:
    """Renders a scene from its cameras. Owns a copy of the model and its own data: it never touches the physics.

    `model` may be changed (see `looks.py`); the next image shows it. One OpenGL context per size; close() frees them.
    """

    def __init__(self, scene: Scene, shadows: bool = False) -> None:
        require_opengl()
        self.scene = scene
        self.model = copy.copy(scene.model)
        self.model.vis.quality.offsamples = 0
        self._data = mujoco.MjData(self.model)
        self._shadows = shadows
        self._contexts: dict[tuple[int, int], Any] = {}

    def render(
        self, data: mujoco.MjData, camera: str = "front", width: int | None = None, height: int | None = None
    ) -> Image:
        """Image (height, width, 3) of the state in `data`; the camera's own size unless given."""
        return self.render_state(data.qpos, camera, data.mocap_pos, data.mocap_quat, width, height)

    def render_state(
        self,
        qpos: NDArray[np.float64],
        camera: str = "front",
        mocap_pos: NDArray[np.float64] | None = None,
        mocap_quat: NDArray[np.float64] | None = None,
        width: int | None = None,
        height: int | None = None,
    ) -> Image:
        """Image of a configuration qpos (nq,) and mocap poses (nmocap, 3), (nmocap, 4); the model's where left out."""
        if np.shape(qpos) != (self.model.nq,):
            raise SimulationError(f"a state to render has qpos of shape ({self.model.nq},), got {np.shape(qpos)}")
        self._data.qpos[:] = qpos
        if mocap_pos is not None:
            self._data.mocap_pos[:] = mocap_pos
        if mocap_quat is not None:
            self._data.mocap_quat[:] = mocap_quat
        mujoco.mj_kinematics(self.model, self._data)
        mujoco.mj_comPos(self.model, self._data)
        mujoco.mj_camlight(self.model, self._data)
        profile = self.scene.robot.camera(camera)
        renderer = self._context(width or profile.width, height or profile.height)
        renderer.update_scene(self._data, camera)
        return np.asarray(renderer.render()).copy()

    def _context(self, width: int, height: int) -> Any:
        if (width, height) not in self._contexts:
            if width > self.model.vis.global_.offwidth or height > self.model.vis.global_.offheight:
                self.model.vis.global_.offwidth = max(width, self.model.vis.global_.offwidth)
                self.model.vis.global_.offheight = max(height, self.model.vis.global_.offheight)
            try:
                renderer = mujoco.Renderer(self.model, height, width)
            except (RuntimeError, ImportError, AttributeError, mujoco.FatalError) as error:
                raise MachineError(f"OpenGL cannot start ({error}); if libosmesa6 is missing, {FIX}") from error
            renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = int(self._shadows)
            renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
            renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = 0
            self._contexts[width, height] = renderer
        return self._contexts[width, height]

    def close(self) -> None:
        """Free the OpenGL contexts; safe to call twice."""
        for renderer in self._contexts.values():
            renderer.close()
        self._contexts.clear()

    def __enter__(self) -> SceneRenderer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def jpeg(image: Image, quality: int = JPEG_QUALITY) -> bytes:
    """A JPEG file of an image (height, width, 3) uint8 RGB."""
    from PIL import Image as PillowImage

    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise SimulationError(f"JPEG needs (height, width, 3) uint8, got {image.shape} {image.dtype}")
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def check_cameras(scene: Scene, cameras: tuple[str, ...]) -> None:
    """Raise SimulationError where a name is no camera of the robot."""
    names = [camera.name for camera in scene.robot.cameras]
    unknown = [name for name in cameras if name not in names]
    if unknown:
        raise SimulationError(f"no camera {', '.join(unknown)}; {available(names)}")
