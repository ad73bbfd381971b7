"""What randomised frames look like: cameras around the deployed one, light, and colours."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from sealegs_sim.looks import Look

FloatArray = NDArray[np.float64]
# Materials whose colour the task sentences name keep their hue; all others take any.
NAMED_COLOURS = ("target", "cube", "drawer", "handle")


@dataclass(frozen=True)
class CameraRange:
    """How far a camera is moved around the point that it looks at. Azimuth is drawn on both sides of zero.

    Angles in degrees; `distance` and `field_of_view` are factors.
    """

    azimuth: tuple[float, float]
    elevation: tuple[float, float]
    roll: tuple[float, float]
    distance: tuple[float, float]
    field_of_view: tuple[float, float]


TRAINING_CAMERAS = CameraRange((0.0, 20.0), (-8.0, 8.0), (-4.0, 4.0), (0.85, 1.2), (0.92, 1.1))
HELD_OUT_CAMERAS = CameraRange((20.0, 30.0), (-8.0, 8.0), (-4.0, 4.0), (0.85, 1.2), (0.92, 1.1))


def aim(position: FloatArray, rotation: FloatArray, table_height_m: float = 0.05) -> FloatArray:
    """Point (3,) where the optical axis (-z of `rotation` (3, 3)) meets the height of the things on the table."""
    forward = -rotation[:, 2]
    return np.asarray(position + forward * (table_height_m - position[2]) / forward[2])


def orbit(position: FloatArray, centre: FloatArray, azimuth: float, elevation: float, distance: float) -> FloatArray:
    """Camera position moved around `centre` by angles in rad and a factor of distance; never below the table."""
    offset = position - centre
    radius = float(np.linalg.norm(offset)) * distance
    pitch = np.clip(np.arcsin(offset[2] / np.linalg.norm(offset)) + elevation, 0.1, 1.45)
    yaw = np.arctan2(offset[1], offset[0]) + azimuth
    return centre + radius * np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)])


def look_at(position: FloatArray, centre: FloatArray, roll: float) -> FloatArray:
    """Rotation (3, 3) of a camera (x right, y up, looking along -z) that sees `centre`, rolled by `roll` rad."""
    z = (position - centre) / np.linalg.norm(position - centre)
    x = np.cross([0.0, 0.0, 1.0], z)
    x /= np.linalg.norm(x)
    y = np.cross(z, x)
    return np.stack([np.cos(roll) * x + np.sin(roll) * y, -np.sin(roll) * x + np.cos(roll) * y, z], axis=1)


class Looks:
    """Changes a renderer's own model, and restores it. The physics has another model and never notices."""

    def __init__(self, model: mujoco.MjModel, camera: str) -> None:
        self._model = model
        self._camera = int(mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, camera))
        self._base = Look.of(model)
        rotation = np.empty(9)
        mujoco.mju_quat2Mat(rotation, self._base.arrays["cam_quat"][self._camera])
        self._position = self._base.arrays["cam_pos"][self._camera]
        self._centre = aim(self._position, rotation.reshape(3, 3))

    def restore(self) -> None:
        """The deployed camera and the scene's own light and colours."""
        self._base.apply(self._model)

    def move_camera(self, rng: np.random.Generator, limits: CameraRange) -> None:
        """A camera drawn from `limits`, aimed near the point that the deployed one looks at."""
        side = rng.choice([-1.0, 1.0])
        azimuth, elevation = np.radians(side * rng.uniform(*limits.azimuth)), np.radians(rng.uniform(*limits.elevation))
        centre = self._centre + rng.uniform(-0.02, 0.02, 3)
        position = orbit(self._position, centre, azimuth, elevation, rng.uniform(*limits.distance))
        rotation = look_at(position, centre, np.radians(rng.uniform(*limits.roll)))
        quaternion = np.empty(4)
        mujoco.mju_mat2Quat(quaternion, rotation.reshape(9))
        self._model.cam_pos[self._camera], self._model.cam_quat[self._camera] = position, quaternion
        self._model.cam_fovy[self._camera] *= rng.uniform(*limits.field_of_view)

    def change_light_and_colours(self, rng: np.random.Generator) -> None:
        """Light from anywhere above, brighter or darker; new colours; another scale of the table's pattern."""
        model = self._model
        for i in range(model.nlight):
            direction = np.array([*rng.uniform(-0.8, 0.8, 2), -1.0])
            model.light_dir[i] = direction / np.linalg.norm(direction)
            model.light_diffuse[i] = rng.uniform(0.2, 0.8) * rng.uniform(0.85, 1.0, 3)
        model.vis.headlight.ambient[:] = rng.uniform(0.25, 0.55) * rng.uniform(0.9, 1.0, 3)
        model.mat_texrepeat[:] *= rng.uniform(0.4, 1.6)
        for i in range(model.nmat):
            keep = model.material(i).name in NAMED_COLOURS
            model.mat_rgba[i, :3] = new_colour(model.mat_rgba[i, :3], keep, rng)


def new_colour(rgb: FloatArray, keep_hue: bool, rng: np.random.Generator) -> FloatArray:
    """A colour (3,) of the same hue (+-4%) and other strength; or any muted colour of similar brightness."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(float(c) for c in rgb))
    if keep_hue:
        hue = (hue + rng.uniform(-0.04, 0.04)) % 1.0
        saturation, value = saturation * rng.uniform(0.8, 1.0), min(1.0, value * rng.uniform(0.8, 1.15))
    else:
        hue, saturation = rng.uniform(), rng.uniform(0.0, 0.5)
        value = float(np.clip(value * rng.uniform(0.6, 1.3), 0.05, 1.0))
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value))
