"""Decoded ROS messages to contract samples, without ROS; the same mapping as the live nodes use.

`tests/parity` proves that both give bit-equal samples for the same messages.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import SpecError
from sealegs_contract.sample import CommandSample, ImageSample, JointSample, PoseSample, Sample

FloatArray = NDArray[np.float64]

MESSAGE_TYPES = {
    "joint_states": "sensor_msgs/msg/JointState",
    "joint_trajectory": "trajectory_msgs/msg/JointTrajectory",
    "camera": "sensor_msgs/msg/CompressedImage",
    "objects": "geometry_msgs/msg/PoseStamped",
    "task": "std_msgs/msg/String",
    "episode": "std_msgs/msg/String",
}
_TOPIC = re.compile(
    r"^(?P<namespace>.*?)/?(?P<stream>joint_states|joint_trajectory|task|episode"
    r"|objects/[A-Za-z]\w*/pose|camera/[A-Za-z]\w*(?=/image_raw/compressed$))(?:/image_raw/compressed)?$"
)


def stream_of_topic(topic: str) -> tuple[str, str] | None:
    """(namespace, stream) of a topic: `/arm/camera/front/image_raw/compressed` gives (`/arm`, `camera/front`)."""
    match = _TOPIC.match(topic)
    if match is None or (match["namespace"] and not topic.startswith(match["namespace"] + "/")):
        return None
    return match["namespace"].rstrip("/"), match["stream"]


def expected_type(stream: str) -> str:
    """Message type that a stream must have."""
    return MESSAGE_TYPES[stream.split("/")[0]]


def to_sample(stream: str, message: Any) -> Sample:
    """The sample in a decoded message of `stream`.

    Raises SpecError when its arrays do not match its names, or the stream carries no samples.
    """
    kind, _, rest = stream.partition("/")
    match kind:
        case "joint_states":
            arrays = (np.array(getattr(message, name), np.float64) for name in ("position", "velocity", "effort"))
            return joint_sample(_ns(message.header.stamp), tuple(message.name), *arrays)
        case "joint_trajectory":
            rows = [np.array(point.positions, dtype=np.float64) for point in message.points]
            until_ns = tuple(_ns(point.time_from_start) for point in message.points)
            return command_sample(_ns(message.header.stamp), tuple(message.joint_names), rows, until_ns)
        case "objects":
            p, q = message.pose.position, message.pose.orientation
            stamp_ns, name, frame = _ns(message.header.stamp), rest.removesuffix("/pose"), message.header.frame_id
            return pose_sample(stamp_ns, name, frame, (p.x, p.y, p.z), (q.x, q.y, q.z, q.w))
        case "camera":
            return image_sample(_ns(message.header.stamp), rest, message.format, bytes(message.data))
    raise SpecError(f"stream {stream!r} carries no samples")


def _ns(time: Any) -> int:
    return int(time.sec) * 1_000_000_000 + int(time.nanosec)


def joint_sample(
    stamp_ns: int, names: tuple[str, ...], position: FloatArray, velocity: FloatArray, effort: FloatArray
) -> JointSample:
    """A JointSample; an empty array means unknown in ROS and becomes NaN, which a needed value may not be."""

    def filled(field: str, data: FloatArray) -> FloatArray:
        if data.size == 0:
            return np.full(len(names), np.nan)
        if data.size != len(names):
            raise SpecError(f"joint_states: {data.size} values of {field} for {len(names)} joints {list(names)}")
        return data

    return JointSample(
        stamp_ns, names, filled("position", position), filled("velocity", velocity), filled("effort", effort)
    )


def pose_sample(
    stamp_ns: int, name: str, frame: str, position: tuple[float, ...], quaternion_xyzw: tuple[float, ...]
) -> PoseSample:
    """A PoseSample from plain numbers: 3 in m, 4 of a quaternion."""
    return PoseSample(stamp_ns, name, frame, np.array(position, np.float64), np.array(quaternion_xyzw, np.float64))


def image_sample(stamp_ns: int, camera: str, encoding: str, data: bytes) -> ImageSample:
    """An ImageSample; `encoding` is CompressedImage's format text."""
    return ImageSample(stamp_ns, camera, data, "png" if "png" in encoding.lower() else "jpeg")


def command_sample(
    stamp_ns: int, names: tuple[str, ...], rows: list[FloatArray], until_ns: tuple[int, ...]
) -> CommandSample:
    """A CommandSample from the positions (J,) rad of each point and the time until which it holds."""
    if any(row.shape != (len(names),) for row in rows):
        sizes = [row.size for row in rows]
        raise SpecError(f"joint_trajectory: points of {sizes} positions for {len(names)} joints {list(names)}")
    return CommandSample(stamp_ns, names, np.stack(rows) if rows else np.empty((0, len(names))), until_ns)
