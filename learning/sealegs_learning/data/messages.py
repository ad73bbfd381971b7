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
            return _joints(message)
        case "joint_trajectory":
            return _command(message)
        case "objects":
            return _pose(rest.removesuffix("/pose"), message)
        case "camera":
            encoding = "png" if "png" in message.format.lower() else "jpeg"
            return ImageSample(_ns(message.header.stamp), rest, bytes(message.data), encoding)
    raise SpecError(f"stream {stream!r} carries no samples")


def _ns(time: Any) -> int:
    return int(time.sec) * 1_000_000_000 + int(time.nanosec)


def _joints(message: Any) -> JointSample:
    names = tuple(message.name)

    def values(field: str) -> FloatArray:
        data: FloatArray = np.array(getattr(message, field), dtype=np.float64)
        if data.size == 0:  # ROS: unknown; NaN is refused by any observation that needs it
            return np.full(len(names), np.nan)
        if data.size != len(names):
            raise SpecError(f"joint_states: {data.size} values of {field} for {len(names)} joints {list(names)}")
        return data

    return JointSample(_ns(message.header.stamp), names, values("position"), values("velocity"), values("effort"))


def _pose(name: str, message: Any) -> PoseSample:
    p, q = message.pose.position, message.pose.orientation
    return PoseSample(
        _ns(message.header.stamp),
        name,
        message.header.frame_id,
        np.array([p.x, p.y, p.z], dtype=np.float64),
        np.array([q.x, q.y, q.z, q.w], dtype=np.float64),
    )


def _command(message: Any) -> CommandSample:
    names = tuple(message.joint_names)
    rows = [np.array(point.positions, dtype=np.float64) for point in message.points]
    if any(row.shape != (len(names),) for row in rows):
        raise SpecError(
            f"joint_trajectory: points of {[row.size for row in rows]} positions for {len(names)} joints {list(names)}"
        )
    position = np.stack(rows) if rows else np.empty((0, len(names)))
    until_ns = tuple(_ns(point.time_from_start) for point in message.points)
    return CommandSample(_ns(message.header.stamp), names, position, until_ns)
