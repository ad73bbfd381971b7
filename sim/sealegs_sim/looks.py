"""Domain randomisation of how a scene looks: cameras, light and colours; never how it moves.

For training judges that must not depend on one camera or one tint. Changes go into a renderer's own copy of the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

FIELDS = ("cam_pos", "cam_quat", "cam_fovy", "light_pos", "light_dir", "light_diffuse", "mat_rgba", "mat_texrepeat")


@dataclass(frozen=True)
class LookRanges:
    """Half-widths of the randomisation (uniform), for a camera about half a metre from what it sees."""

    camera_shift_m: float = 0.05
    camera_turn_rad: float = 0.06
    fovy_fraction: float = 0.10
    light_shift: float = 0.5
    light_gain: tuple[float, float] = (0.5, 1.5)
    ambient_gain: tuple[float, float] = (0.7, 1.3)
    object_tint: float = 0.12
    table_tint: float = 0.35
    texture_gain: tuple[float, float] = (0.5, 2.0)


DEFAULT_LOOKS = LookRanges()


@dataclass(frozen=True, eq=False)
class Look:
    """How a model looks, kept so that it can be restored."""

    arrays: dict[str, FloatArray]
    ambient: FloatArray

    @classmethod
    def of(cls, model: mujoco.MjModel) -> Look:
        """The model's present look."""
        arrays = {name: np.array(getattr(model, name)) for name in FIELDS}
        return cls(arrays, np.array(model.vis.headlight.ambient))

    def apply(self, model: mujoco.MjModel) -> None:
        """Give the model this look."""
        for name, values in self.arrays.items():
            getattr(model, name)[:] = values
        model.vis.headlight.ambient[:] = self.ambient


def tinted(rgba: FloatArray, amount: float, rng: np.random.Generator) -> FloatArray:
    """Colours (n, 4) moved by up to `amount` in each channel, inside [0, 1]; alpha stays."""
    result = rgba.copy()
    result[:, :3] = np.clip(result[:, :3] + rng.uniform(-amount, amount, (len(rgba), 3)), 0.0, 1.0)
    return result


def turned(quaternion_wxyz: FloatArray, rotation_vector: FloatArray) -> FloatArray:
    """A quaternion (4,) turned by a rotation vector (3,) rad in its own frame."""
    angle = float(np.linalg.norm(rotation_vector))
    turn, result = np.array([1.0, 0.0, 0.0, 0.0]), np.empty(4)
    if angle > 0.0:
        mujoco.mju_axisAngle2Quat(turn, rotation_vector / angle, angle)
    mujoco.mju_mulQuat(result, quaternion_wxyz, turn)
    return result


def randomise_look(
    model: mujoco.MjModel, rng: np.random.Generator, base: Look, ranges: LookRanges = DEFAULT_LOOKS
) -> None:
    """Give `model` a random look around `base` (make it once: `Look.of(renderer.model)`), in place."""
    base.apply(model)
    for camera in range(model.ncam):
        # A camera on the robot sits close to what it sees: half the shift.
        shift = ranges.camera_shift_m * (1.0 if model.cam_bodyid[camera] == 0 else 0.1)
        model.cam_pos[camera] += rng.uniform(-shift, shift, 3)
        turn = rng.uniform(-ranges.camera_turn_rad, ranges.camera_turn_rad, 3)
        model.cam_quat[camera] = turned(base.arrays["cam_quat"][camera], turn)
        model.cam_fovy[camera] *= 1.0 + rng.uniform(-ranges.fovy_fraction, ranges.fovy_fraction)
    for light in range(model.nlight):
        model.light_pos[light] += rng.uniform(-ranges.light_shift, ranges.light_shift, 3)
        direction = model.light_dir[light] + rng.uniform(-ranges.light_shift, ranges.light_shift, 3)
        model.light_dir[light] = direction / np.linalg.norm(direction)
        model.light_diffuse[light] *= rng.uniform(*ranges.light_gain)
    model.vis.headlight.ambient[:] = np.clip(base.ambient * rng.uniform(*ranges.ambient_gain), 0.0, 1.0)
    model.mat_rgba[:] = tinted(base.arrays["mat_rgba"], ranges.object_tint, rng)
    table = model.material("table").id
    model.mat_rgba[table] = tinted(base.arrays["mat_rgba"][table][None], ranges.table_tint, rng)[0]
    model.mat_texrepeat[table] *= rng.uniform(*ranges.texture_gain)
