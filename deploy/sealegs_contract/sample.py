"""Timestamped samples: the one form in which sensor data and commands travel between sim, bags, ROS and learning.

`stamp_ns` is the time of measurement (for a command: of issue) in integer nanoseconds of the robot's clock.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import SpecError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class JointSample:
    """Measured joints. Arrays are (J,) in the order of `names`: rad, rad/s, N m."""

    stamp_ns: int
    names: tuple[str, ...]
    position: FloatArray
    velocity: FloatArray
    effort: FloatArray


@dataclass(frozen=True, slots=True)
class PoseSample:
    """Pose of a named object in `frame`: position (3,) m, orientation (4,) as unit quaternion x, y, z, w."""

    stamp_ns: int
    object_name: str
    frame: str
    position: FloatArray
    orientation_xyzw: FloatArray


@dataclass(frozen=True, slots=True)
class ImageSample:
    """A compressed camera image. `data` is a whole JPEG or PNG file; `encoding` is `jpeg` or `png`."""

    stamp_ns: int
    camera: str
    data: bytes
    encoding: str = "jpeg"


@dataclass(frozen=True, slots=True)
class CommandSample:
    """Joint position targets. Row k of `position` (K, J) rad holds until `stamp_ns + until_ns[k]`.

    `stamp_ns` is the issue time and serves as sequence number; the command expires at its last `until_ns`.
    """

    stamp_ns: int
    names: tuple[str, ...]
    position: FloatArray
    until_ns: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.position.ndim != 2 or self.position.shape != (len(self.until_ns), len(self.names)) or not self.until_ns:
            raise SpecError(
                f"a command needs positions of shape (points, joints) = ({len(self.until_ns)}, {len(self.names)}) "
                f"with at least one point, but came with shape {self.position.shape}"
            )
        if any(later <= earlier for earlier, later in zip((0, *self.until_ns), self.until_ns, strict=False)):
            raise SpecError(f"a command's times must be positive and increase, but came as {self.until_ns}")

    @property
    def expires_ns(self) -> int:
        """Time from which the command holds no more."""
        return self.stamp_ns + self.until_ns[-1]

    def target_at(self, now_ns: int) -> FloatArray | None:
        """Target (J,) rad that holds at `now_ns`; None once the command has expired."""
        for k, until in enumerate(self.until_ns):
            if now_ns < self.stamp_ns + until:
                row: FloatArray = self.position[k]
                return row
        return None


Sample = JointSample | PoseSample | ImageSample | CommandSample


def stream_of(sample: Sample) -> str:
    """Name of the stream that a sample belongs to; it equals its ROS topic, apart from an image's transport suffix."""
    match sample:
        case JointSample():
            return "joint_states"
        case PoseSample():
            return f"objects/{sample.object_name}/pose"
        case ImageSample():
            return f"camera/{sample.camera}"
        case CommandSample():
            return "joint_trajectory"


def reorder(names: tuple[str, ...], values: FloatArray, wanted: tuple[str, ...]) -> FloatArray:
    """Last axis of `values` from the order `names` into the order `wanted`; extra names are left out.

    Raises SpecError when a wanted name is missing, a name came twice, or there are not as many values as names (ROS
    allows empty velocity and effort): joints are matched by name, never by index.
    """
    if values.shape[-1:] != (len(names),):
        raise SpecError(f"expected one value for each of the joints {list(names)}, got shape {values.shape}")
    if names == wanted:
        return values
    index = {name: i for i, name in enumerate(names)}
    missing = [name for name in wanted if name not in index]
    if missing or len(index) != len(names):
        problem = f"lacks {', '.join(missing)}" if missing else "repeats a name"
        raise SpecError(f"joint names {list(names)} do not fit: the message {problem}; expected {list(wanted)}")
    return values[..., [index[name] for name in wanted]]
