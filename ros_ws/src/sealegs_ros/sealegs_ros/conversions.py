"""Sample <-> ROS message, both ways, without a node: nodes, the recorder and `sealegs collect` all use these.

Stamps are integer nanoseconds. Arrays of JointState are always filled: an unknown velocity or effort is NaN, never
an empty array (which some readers reject and which a receiver would have to guess about).
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, JointState
from std_msgs.msg import Header, String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from sealegs_contract import topics
from sealegs_contract.errors import SpecError
from sealegs_contract.robot import CameraProfile
from sealegs_contract.sample import CommandSample, ImageSample, JointSample, PoseSample, Sample

FloatArray = NDArray[np.float64]

MESSAGE_TYPES: dict[type, str] = {
    JointState: "sensor_msgs/msg/JointState",
    CompressedImage: "sensor_msgs/msg/CompressedImage",
    CameraInfo: "sensor_msgs/msg/CameraInfo",
    JointTrajectory: "trajectory_msgs/msg/JointTrajectory",
    PoseStamped: "geometry_msgs/msg/PoseStamped",
    String: "std_msgs/msg/String",
    DiagnosticArray: "diagnostic_msgs/msg/DiagnosticArray",
    Clock: "rosgraph_msgs/msg/Clock",
}


def to_time(stamp_ns: int) -> Time:
    """builtin_interfaces/Time of a stamp in ns."""
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    return Time(sec=sec, nanosec=nanosec)


def to_ns(time: Time | Duration) -> int:
    """Nanoseconds of a builtin_interfaces Time or Duration."""
    return int(time.sec) * 1_000_000_000 + int(time.nanosec)


def topic_of(sample: Sample) -> str:
    """The relative topic that carries `sample`."""
    match sample:
        case JointSample():
            return topics.JOINT_STATES
        case PoseSample():
            return topics.object_pose(sample.object_name)
        case ImageSample():
            return topics.camera_image(sample.camera)
        case CommandSample():
            return topics.JOINT_TRAJECTORY


def optical_frame(camera: str) -> str:
    """REP-103 frame of a camera: z forward, x right, y down."""
    return f"{camera}_optical_frame"


def to_message(sample: Sample) -> JointState | PoseStamped | CompressedImage | JointTrajectory:
    """The message that carries `sample`; raises SpecError when its arrays do not match its names."""
    match sample:
        case JointSample():
            return _joint_state(sample)
        case PoseSample():
            return _pose(sample)
        case ImageSample():
            header = Header(stamp=to_time(sample.stamp_ns), frame_id=optical_frame(sample.camera))
            # array.array, not bytes or ndarray: the setter then copies no byte by byte.
            return CompressedImage(header=header, format=sample.encoding, data=array("B", sample.data))
        case CommandSample():
            return _trajectory(sample)


def from_message(topic: str, message: Any) -> Sample:
    """The sample in a `message` of `topic` (relative, or resolved under any namespace).

    Raises SpecError for a message that carries no sample, or whose arrays do not match its names.
    """
    match message:
        case JointState():
            return _joint_sample(message)
        case JointTrajectory():
            return command_sample(message)
        case PoseStamped():
            return _pose_sample(_element_of(topic, "objects"), message)
        case CompressedImage():
            encoding = "png" if "png" in message.format.lower() else "jpeg"
            stamp_ns = to_ns(message.header.stamp)
            return ImageSample(stamp_ns, _element_of(topic, "camera"), bytes(message.data), encoding)
    raise SpecError(f"{topic}: a {type(message).__name__} carries no sample")


def _element_of(topic: str, group: str) -> str:
    """`cube` from `/arm/objects/cube/pose` with group `objects`; the last such group counts."""
    parts = topic.strip("/").split("/")
    places = [i for i, part in enumerate(parts[:-1]) if part == group]
    if not places:
        raise SpecError(f"topic {topic!r} names no element: expected .../{group}/NAME/...")
    return parts[places[-1] + 1]


def _floats(values: FloatArray, size: int, what: str) -> array[float]:
    """`values` (size,) as array.array('d')."""
    contiguous = np.ascontiguousarray(values, dtype=np.float64)
    if contiguous.shape != (size,):
        raise SpecError(f"{what}: expected shape ({size},), got {contiguous.shape}")
    return array("d", contiguous.tobytes())


def _joint_state(sample: JointSample) -> JointState:
    size = len(sample.names)
    return JointState(
        header=Header(stamp=to_time(sample.stamp_ns)),
        name=list(sample.names),
        position=_floats(sample.position, size, "joint position"),
        velocity=_floats(sample.velocity, size, "joint velocity"),
        effort=_floats(sample.effort, size, "joint effort"),
    )


def _joint_sample(message: JointState) -> JointSample:
    size = len(message.name)

    def values(field: str) -> FloatArray:
        data: FloatArray = np.array(getattr(message, field), dtype=np.float64)
        if data.size == 0:
            return np.full(size, np.nan)
        if data.size != size:
            raise SpecError(f"joint_states: {data.size} values of {field} for {size} joints {list(message.name)}")
        return data

    names = tuple(message.name)
    return JointSample(to_ns(message.header.stamp), names, values("position"), values("velocity"), values("effort"))


def _pose(sample: PoseSample) -> PoseStamped:
    message = PoseStamped(header=Header(stamp=to_time(sample.stamp_ns), frame_id=sample.frame))
    point, quaternion = message.pose.position, message.pose.orientation
    point.x, point.y, point.z = map(float, sample.position)
    quaternion.x, quaternion.y, quaternion.z, quaternion.w = map(float, sample.orientation_xyzw)
    return message


def _pose_sample(name: str, message: PoseStamped) -> PoseSample:
    p, q = message.pose.position, message.pose.orientation
    stamp_ns = to_ns(message.header.stamp)
    return PoseSample(
        stamp_ns, name, message.header.frame_id, np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w])
    )


def _trajectory(sample: CommandSample) -> JointTrajectory:
    points = []
    for row, until_ns in zip(sample.position, sample.until_ns, strict=True):
        sec, nanosec = divmod(int(until_ns), 1_000_000_000)
        positions = _floats(row, len(sample.names), "command position")
        points.append(JointTrajectoryPoint(positions=positions, time_from_start=Duration(sec=sec, nanosec=nanosec)))
    header = Header(stamp=to_time(sample.stamp_ns))
    return JointTrajectory(header=header, joint_names=list(sample.names), points=points)


def command_sample(message: JointTrajectory) -> CommandSample:
    """The command in a JointTrajectory. Raises SpecError."""
    names = tuple(message.joint_names)
    rows = [np.array(point.positions, dtype=np.float64) for point in message.points]
    if any(row.shape != (len(names),) for row in rows):
        sizes = [row.size for row in rows]
        raise SpecError(f"joint_trajectory: points of {sizes} positions for {len(names)} joints {list(names)}")
    for point in message.points:
        for field in ("velocities", "accelerations", "effort"):
            # NaN counts as something. All zeros ask for what is done anyway: to come to rest there, pushed by nothing.
            if any(values := getattr(point, field)):
                raise SpecError(
                    f"joint_trajectory: a point with {field} {list(values)}: the robot is commanded by positions "
                    "alone; leave the others empty or zero"
                )
    position = np.stack(rows) if rows else np.empty((0, len(names)))
    until_ns = tuple(to_ns(point.time_from_start) for point in message.points)
    return CommandSample(to_ns(message.header.stamp), names, position, until_ns)


def camera_info(camera: CameraProfile, stamp_ns: int) -> CameraInfo:
    """Calibration of a profile's camera: K, D and P of a monocular pinhole camera, R the identity."""
    fx, fy, cx, cy = camera.fx, camera.fy, camera.cx, camera.cy
    return CameraInfo(
        header=Header(stamp=to_time(stamp_ns), frame_id=optical_frame(camera.name)),
        width=camera.width,
        height=camera.height,
        distortion_model="plumb_bob",
        d=array("d", camera.distortion),
        k=np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1], dtype=np.float64),
        r=np.eye(3).ravel(),
        p=np.array([fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1, 0], dtype=np.float64),
    )


def clock_message(stamp_ns: int) -> Clock:
    """rosgraph_msgs/Clock of a stamp in ns."""
    return Clock(clock=to_time(stamp_ns))


OK, WARN, ERROR, STALE = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR, DiagnosticStatus.STALE


def diagnostic_status(
    name: str, level: bytes, message: str, values: Mapping[str, object], hardware: str = ""
) -> DiagnosticStatus:
    """One status of /diagnostics. `level` is OK, WARN, ERROR or STALE; numbers keep four significant digits."""
    pairs = [KeyValue(key=k, value=f"{v:.4g}" if isinstance(v, float) else str(v)) for k, v in values.items()]
    return DiagnosticStatus(level=level, name=name, message=message, hardware_id=hardware, values=pairs)


def diagnostic_array(stamp_ns: int, statuses: Sequence[DiagnosticStatus]) -> DiagnosticArray:
    """diagnostic_msgs/DiagnosticArray at `stamp_ns`."""
    return DiagnosticArray(header=Header(stamp=to_time(stamp_ns)), status=list(statuses))
