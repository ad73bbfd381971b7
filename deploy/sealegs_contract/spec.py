"""Validated descriptions of the arrays that pass between robot, dataset and policy.

One spec per array: it checks values, names their elements, and makes values for tests.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from sealegs_contract.errors import SpecError, available
from sealegs_contract.robot import Finite, FrozenModel, Name, Positive, RobotProfile


class ArraySpec(FrozenModel):
    """Shape, type, unit, element names and range of one array. `names` label the last axis, if given."""

    name: str
    shape: tuple[Annotated[int, Field(ge=0)], ...]
    dtype: Literal["float32", "float64", "uint8", "int64", "bool"] = "float32"
    unit: str = ""
    names: tuple[str, ...] = ()
    minimum: float = -np.inf
    maximum: float = np.inf

    @model_validator(mode="after")
    def _consistent(self) -> ArraySpec:
        if self.names and (not self.shape or len(self.names) != self.shape[-1]):
            raise ValueError(f"{self.name}: {len(self.names)} names for shape {self.shape}")
        if not self.minimum <= self.maximum:
            raise ValueError(f"{self.name}: minimum {self.minimum} exceeds maximum {self.maximum}")
        return self

    def validate_array(self, value: ArrayLike) -> NDArray:
        """`value` as an array, or SpecError naming what came and what was expected."""
        array = np.asarray(value)
        if array.shape != self.shape:
            raise SpecError(f"{self.name}: expected shape {self.shape}, got {array.shape}")
        if array.dtype != np.dtype(self.dtype):
            raise SpecError(f"{self.name}: expected {self.dtype}, got {array.dtype}")
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise SpecError(f"{self.name}: {np.count_nonzero(~np.isfinite(array))} value(s) are not finite")
        if array.size and (array.min() < self.minimum or array.max() > self.maximum):
            raise SpecError(
                f"{self.name}: values in [{array.min()}, {array.max()}] leave "
                f"[{self.minimum}, {self.maximum}] {self.unit}".rstrip()
            )
        return array

    def sample(self, rng: np.random.Generator) -> NDArray:
        """A random valid value; unbounded ranges are drawn from [-1, 1] around their finite side."""
        if self.dtype == "bool":
            return rng.integers(0, 2, self.shape).astype(bool)
        floor, ceiling = (0.0, 255.0) if self.dtype == "uint8" else (-np.inf, np.inf)
        low, high = max(self.minimum, floor), min(self.maximum, ceiling)
        low = low if np.isfinite(low) else min(-1.0, high - 2.0)
        high = high if np.isfinite(high) else max(1.0, low + 2.0)
        if self.dtype in {"uint8", "int64"}:
            return rng.integers(math.ceil(low), math.floor(high) + 1, self.shape).astype(self.dtype)
        return rng.uniform(low, high, self.shape).astype(self.dtype)


FieldKind = Literal["joint_position", "joint_velocity", "joint_effort", "object_position", "object_orientation"]
FIELD_UNITS: dict[str, str] = {
    "joint_position": "rad",
    "joint_velocity": "rad/s",
    "joint_effort": "N m",
    "object_position": "m",
    "object_orientation": "quaternion xyzw",
}
POSE_AXES = {"object_position": ("x", "y", "z"), "object_orientation": ("qx", "qy", "qz", "qw")}


class ObservationField(FrozenModel):
    """One named piece of the observation vector: `value * scale + offset`, from the newest sample of its stream.

    `joints` orders a joint field; `object_name` names the object of a pose field.
    """

    kind: FieldKind
    joints: tuple[Name, ...] = ()
    object_name: str = ""
    scale: Finite = 1.0
    offset: Finite = 0.0

    @model_validator(mode="after")
    def _source_given(self) -> ObservationField:
        if self.kind.startswith("joint") != bool(self.joints) or self.kind.startswith("object") != bool(
            self.object_name
        ):
            raise ValueError(
                f"{self.kind} needs {'joints' if self.kind.startswith('joint') else 'object_name'}, and only that"
            )
        if self.scale == 0.0:
            raise ValueError(f"{self.kind}: scale 0 would lose the values")
        return self

    @property
    def name(self) -> str:
        """`joint_position`, or `cube.object_position` for an object's field."""
        return f"{self.object_name}.{self.kind}" if self.object_name else self.kind

    @property
    def stream(self) -> str:
        """The stream that delivers it."""
        return f"objects/{self.object_name}/pose" if self.object_name else "joint_states"

    @property
    def size(self) -> int:
        """Number of elements."""
        return len(self.element_names)

    @property
    def element_names(self) -> tuple[str, ...]:
        """`shoulder_pan.joint_position` or `cube.object_position.x`."""
        if self.joints:
            return tuple(f"{joint}.{self.kind}" for joint in self.joints)
        return tuple(f"{self.name}.{axis}" for axis in POSE_AXES[self.kind])


@lru_cache(maxsize=256)
def _layout(fields: tuple[ObservationField, ...]) -> tuple[tuple[str, slice], ...]:
    """Name and place in the vector of each field: robots ask for it in every control period."""
    ends = np.cumsum([field.size for field in fields])
    return tuple((field.name, slice(int(end) - field.size, int(end))) for field, end in zip(fields, ends, strict=True))


class ImageField(FrozenModel):
    """One camera of the observation, as the profile's camera delivers it: (height, width, 3) uint8 RGB."""

    camera: Name
    height: int
    width: int

    @property
    def stream(self) -> str:
        """The stream that delivers it."""
        return f"camera/{self.camera}"


class ObservationSpec(FrozenModel):
    """What a policy sees: a float32 vector of fields in order, and camera images beside it.

    A stream older than `timeout_ms` (by its stamps) is stale; images have their own, longer limit.
    """

    fields: Annotated[tuple[ObservationField, ...], Field(min_length=1)]
    images: tuple[ImageField, ...] = ()
    timeout_ms: Positive = 100.0
    image_timeout_ms: Positive = 500.0

    @model_validator(mode="after")
    def _unique_fields(self) -> ObservationSpec:
        names = [field.name for field in self.fields] + [image.stream for image in self.images]
        if len(set(names)) != len(names):
            raise ValueError(f"observation fields must be unique, got {names}")
        return self

    @property
    def size(self) -> int:
        """Number of elements."""
        return sum(field.size for field in self.fields)

    @property
    def element_names(self) -> tuple[str, ...]:
        """Names of the vector's elements, in order."""
        return tuple(name for field in self.fields for name in field.element_names)

    @property
    def streams(self) -> tuple[str, ...]:
        """Streams that must be alive, each once."""
        return tuple(dict.fromkeys([f.stream for f in self.fields] + [i.stream for i in self.images]))

    def timeout_ns(self, stream: str) -> int:
        """Age from which `stream` is stale."""
        return round(1e6 * (self.image_timeout_ms if stream.startswith("camera/") else self.timeout_ms))

    def slices(self) -> dict[str, slice]:
        """Where each field lies in the vector, by field name."""
        return dict(_layout(self.fields))

    def split(self, vector: NDArray) -> dict[str, NDArray]:
        """Fields of `vector` (..., D) by name, in physical units (scale and offset undone)."""
        where = _layout(self.fields)
        size = where[-1][1].stop
        if vector.shape[-1] != size:
            raise SpecError(f"observation: expected {size} elements on the last axis, got shape {vector.shape}")
        fields = zip(self.fields, where, strict=True)
        return {name: (vector[..., part] - field.offset) / field.scale for field, (name, part) in fields}

    def array_spec(self) -> ArraySpec:
        """The vector as one array: (D,) float32."""
        return ArraySpec(name="observation", shape=(self.size,), names=self.element_names)


class ActionSpec(FrozenModel):
    """What a policy's output means. The policy works in [-1, 1]^J; `output = action * scale_rad + offset_rad` in rad.

    `joint_delta`: output is added to the previous target. `joint_position`: output is the target.
    `maximum_lead_rad` keeps a delta's target within reach of the measured position, so that it cannot wind up.
    """

    kind: Literal["joint_delta", "joint_position"] = "joint_delta"
    joints: Annotated[tuple[Name, ...], Field(min_length=1)]
    scale_rad: tuple[Positive, ...]
    offset_rad: tuple[Finite, ...]
    maximum_lead_rad: Positive = 0.3

    @model_validator(mode="after")
    def _same_length(self) -> ActionSpec:
        if not len(self.joints) == len(self.scale_rad) == len(self.offset_rad):
            raise ValueError(
                f"{len(self.joints)} joints need as many scales and offsets, "
                f"got {len(self.scale_rad)} and {len(self.offset_rad)}"
            )
        if len(set(self.joints)) != len(self.joints):
            raise ValueError(f"joints must be unique, got {list(self.joints)}")
        return self

    @property
    def size(self) -> int:
        """Number of elements."""
        return len(self.joints)

    def to_output(self, action: NDArray) -> NDArray:
        """Normalised action (..., J) to policy output in rad. The exported graph contains this step."""
        output: NDArray = action * np.asarray(self.scale_rad) + np.asarray(self.offset_rad)
        return output

    def to_action(self, output: NDArray) -> NDArray:
        """Inverse of `to_output`, not clipped."""
        action: NDArray = (output - np.asarray(self.offset_rad)) / np.asarray(self.scale_rad)
        return action


def observation_spec(
    robot: RobotProfile, objects: tuple[str, ...] = (), cameras: tuple[str, ...] = ()
) -> ObservationSpec:
    """The usual observation: joint positions and velocities, then the position of each object, then cameras."""
    unknown = [name for name in objects if name not in robot.objects]
    if unknown:
        raise SpecError(
            f"robot {robot.name} does not publish object(s) {', '.join(unknown)}; {available(robot.objects)}"
        )
    fields = [
        ObservationField(kind="joint_position", joints=robot.joint_names),
        ObservationField(kind="joint_velocity", joints=robot.joint_names),
        *(ObservationField(kind="object_position", object_name=name) for name in objects),
    ]
    images = [robot.camera(name) for name in cameras]
    return ObservationSpec(
        fields=tuple(fields),
        images=tuple(ImageField(camera=camera.name, height=camera.height, width=camera.width) for camera in images),
    )


def delta_action_spec(robot: RobotProfile, velocity_fraction: float = 0.6) -> ActionSpec:
    """Joint deltas whose full scale is `velocity_fraction` of each joint's velocity limit, per control period."""
    scale = tuple(velocity_fraction * joint.velocity_max_rad_s / robot.control_rate_hz for joint in robot.joints)
    return ActionSpec(joints=robot.joint_names, scale_rad=scale, offset_rad=(0.0,) * len(scale))
