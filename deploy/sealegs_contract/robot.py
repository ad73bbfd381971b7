"""RobotProfile: what a robot is, in one file that sim, learning and robot share.

Units are in the field names: rad, rad/s, rad/s^2, N m, Hz, ms. Frames follow REP-105.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from sealegs_contract.errors import ProfileError, available

MAXIMUM_PROFILE_BYTES = 256 * 1024
MAXIMUM_PROBLEMS = 5  # named in one error

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=64)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class FrozenModel(BaseModel):
    """Immutable and strict about unknown keys: a misspelt limit must never be ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class JointProfile(FrozenModel):
    """Limits of one joint. `home_rad` must lie inside the position limits. Without `jerk_max_rad_s3` jerk is free."""

    name: Name
    position_min_rad: Finite
    position_max_rad: Finite
    velocity_max_rad_s: Positive
    acceleration_max_rad_s2: Positive
    jerk_max_rad_s3: Positive | None = None
    effort_max_n_m: Positive
    home_rad: Finite = 0.0

    @model_serializer(mode="wrap")
    def _without_unset_jerk(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A profile without the limit keeps the digest that it had before there was one."""
        values: dict[str, Any] = serialise(self)
        if self.jerk_max_rad_s3 is None:
            del values["jerk_max_rad_s3"]
        return values

    @model_validator(mode="after")
    def _ordered(self) -> JointProfile:
        if not self.position_min_rad < self.position_max_rad:
            raise ValueError(
                f"joint {self.name}: position_min_rad {self.position_min_rad} is not below "
                f"position_max_rad {self.position_max_rad}"
            )
        if not self.position_min_rad <= self.home_rad <= self.position_max_rad:
            raise ValueError(
                f"joint {self.name}: home_rad {self.home_rad} lies outside "
                f"[{self.position_min_rad}, {self.position_max_rad}]"
            )
        return self


class CameraProfile(FrozenModel):
    """A pinhole camera. Intrinsics in pixels; `distortion` is OpenCV's plumb_bob (k1 k2 p1 p2 k3)."""

    name: Name
    width: Annotated[int, Field(ge=8, le=8192)]
    height: Annotated[int, Field(ge=8, le=8192)]
    rate_hz: Positive
    fx: Positive
    fy: Positive
    cx: Finite
    cy: Finite
    distortion: tuple[Finite, Finite, Finite, Finite, Finite] = (0.0, 0.0, 0.0, 0.0, 0.0)


class WatchdogProfile(FrozenModel):
    """How long commands may stop before the robot node holds, on its monotonic clock."""

    command_timeout_ms: Positive = 100.0


class HoldProfile(FrozenModel):
    """What HOLD does. `position` decelerates and holds the measured pose; arms fall with `torque_off`."""

    mode: Literal["position", "torque_off"] = "position"
    timeout_s: Positive = 60.0


class BackendProfile(FrozenModel):
    """Which backend drives the robot and its own parameters (a port, a baud rate, a scene)."""

    kind: Literal["mujoco", "feetech", "dynamixel", "ros2_control"] = "mujoco"
    parameters: Mapping[str, Any] = Field(default_factory=dict)


class RobotProfile(FrozenModel):
    """The whole robot. `digest` identifies it in every bag, dataset and bundle."""

    schema_version: Literal[1] = 1
    name: Name
    description: str = ""
    joints: Annotated[tuple[JointProfile, ...], Field(min_length=1)]
    control_rate_hz: Positive
    command_interface: Literal["joint_trajectory", "forward_command"] = "joint_trajectory"
    base_frame: str = "base_link"
    cameras: tuple[CameraProfile, ...] = ()
    objects: tuple[Name, ...] = ()
    watchdog: WatchdogProfile = WatchdogProfile()
    hold: HoldProfile = HoldProfile()
    backend: BackendProfile = BackendProfile()
    mjcf: str | None = None

    @model_validator(mode="after")
    def _unique_names(self) -> RobotProfile:
        for kind, names in (
            ("joint", self.joint_names),
            ("camera", tuple(c.name for c in self.cameras)),
            ("object", self.objects),
        ):
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise ValueError(f"{kind} names must be unique, but these repeat: {', '.join(repeated)}")
        return self

    @property
    def joint_names(self) -> tuple[str, ...]:
        """In the order of all (J,) arrays."""
        return tuple(joint.name for joint in self.joints)

    @property
    def control_period_ns(self) -> int:
        """One control period in ns."""
        return round(1e9 / self.control_rate_hz)

    @property
    def home_rad(self) -> np.ndarray:
        """Home pose, (J,) rad."""
        return np.array([joint.home_rad for joint in self.joints])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON: equal for equal content, whatever the file looked like."""
        return hashlib.sha256(canonical_json(self.model_dump(mode="json")).encode()).hexdigest()

    def camera(self, name: str) -> CameraProfile:
        """A camera by name. Raises ProfileError."""
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise ProfileError(f"robot {self.name} has no camera {name!r}; {available(c.name for c in self.cameras)}")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and full-precision floats; NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def differences(a: Any, b: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted paths at which two plain trees differ, with both values; None where one has nothing."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            yield from differences(a.get(key), b.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for index, pair in enumerate(zip(a, b, strict=True)):
            yield from differences(*pair, f"{path}.{index}")
    elif a != b:
        yield path, a, b


def shipped_robots() -> dict[str, Path]:
    """Names and files of the profiles that come with the package."""
    folder = Path(str(resources.files("sealegs_contract"))) / "robots"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_robot(name_or_path: str | Path) -> RobotProfile:
    """A shipped profile by name, or any profile by path (ending in .yaml, .yml or .json)."""
    text = str(name_or_path)
    shipped = shipped_robots()
    if text in shipped:
        return _read(shipped[text])
    path = Path(text)
    if path.suffix not in {".yaml", ".yml", ".json"}:
        raise ProfileError(
            f"unknown robot {text!r}: give a profile file (.yaml) or a shipped name; {available(shipped)}"
        )
    if not path.is_file():
        raise ProfileError(f"no robot profile at {path}; {available(shipped)}")
    return _read(path)


def _read(path: Path) -> RobotProfile:
    if path.stat().st_size > MAXIMUM_PROFILE_BYTES:
        raise ProfileError(f"{path}: {path.stat().st_size} bytes; a robot profile has at most {MAXIMUM_PROFILE_BYTES}")
    try:
        content = safe_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, no date, an integer of too many digits
        raise ProfileError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ProfileError(f"{path}: not readable as YAML: nested too deeply") from error
    return parse_robot(content, source=str(path))


def parse_robot(content: Any, source: str) -> RobotProfile:
    """A profile from decoded YAML or JSON; `source` names where it came from in errors."""
    try:
        profile = RobotProfile.model_validate(content)
        _ = profile.digest  # raises for free-form backend parameters that JSON cannot hold, such as !!binary
        return profile
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in problem['loc']) or 'profile'}: {problem['msg']}"
            for problem in error.errors(include_url=False)
        ]
        more = len(problems) - MAXIMUM_PROBLEMS
        listed = "; ".join(problems[:MAXIMUM_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")
        raise ProfileError(f"{source}: {listed}") from error
    except ValueError as error:
        raise ProfileError(f"{source}: backend.parameters: {' '.join(str(error).split())}") from error


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without aliases, which could expand a small file to gigabytes, and without repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed here")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) != len(node.value):
            keys = [key.value for key, _ in node.value]
            repeated = sorted({str(key) for key in keys if keys.count(key) > 1})
            raise yaml.YAMLError(f"repeated key(s) {', '.join(repeated)} in line {node.start_mark.line + 1} or after")
        return mapping


def safe_yaml(text: str) -> Any:
    """Plain data from YAML: no tags, no aliases, no repeated keys."""
    return yaml.load(text, Loader=_PlainLoader)
