"""Samples survive the trip through real CDR bytes, and an independent reader sees the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from builtin_interfaces.msg import Duration
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from sealegs_contract.errors import SpecError
from sealegs_contract.robot import load_robot
from sealegs_contract.sample import CommandSample, ImageSample, JointSample, PoseSample, Sample
from sealegs_ros import conversions
from sealegs_ros.cdr import cdr_size, serialize_exact, trim

NAMES = ("pan", "lift", "grip")
SAMPLES: list[Sample] = [
    JointSample(1_500_000_001, NAMES, np.array([1.0, 2, 3]), np.array([0.1, 0.2, 0.3]), np.array([np.nan, 0, -1])),
    PoseSample(3, "cube", "base_link", np.array([1.0, 2, 3]), np.array([0.0, 0, 0.6, 0.8])),
    ImageSample(4_000_000_000, "front", bytes(range(256)) * 3, "png"),
    CommandSample(2_000_000_000, NAMES, np.array([[1.0, 2, 3], [4, 5, 6]]), (20_000_000, 1_040_000_000)),
]
STORE = get_typestore(Stores.ROS2_JAZZY)


def same(a: Sample, b: Sample) -> None:
    assert type(a) is type(b)
    for field in a.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field), err_msg=field)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("namespace", ["", "/", "/arm/objects/"])
def test_round_trip_through_cdr(sample: Sample, namespace: str) -> None:
    message = conversions.to_message(sample)
    data = serialize_message(message)
    back = conversions.from_message(namespace + conversions.topic_of(sample), deserialize_message(data, type(message)))
    same(sample, back)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: type(s).__name__)
def test_exact_bytes_are_read_by_a_strict_peer(sample: Sample) -> None:
    message = conversions.to_message(sample)
    data, kind = serialize_exact(message), conversions.MESSAGE_TYPES[type(message)]
    peer = STORE.deserialize_cdr(data, kind)
    assert data == bytes(STORE.serialize_cdr(peer, kind))  # padding and all
    assert peer.header.stamp.sec * 10**9 + peer.header.stamp.nanosec == sample.stamp_ns
    if isinstance(sample, JointSample):
        assert peer.name == list(NAMES)
        np.testing.assert_array_equal(peer.effort, sample.effort)
    if isinstance(sample, CommandSample):
        assert [list(p.positions) for p in peer.points] == [[1, 2, 3], [4, 5, 6]]
        assert (peer.points[1].time_from_start.sec, peer.points[1].time_from_start.nanosec) == (1, 40_000_000)


def _ignored(data: bytearray, index: int, message: JointState) -> bool:
    """Whether the byte can be changed without changing the message."""
    changed = bytearray(data)
    changed[index] ^= 0xA5
    try:
        return index >= 4 and deserialize_message(bytes(changed), JointState) == message
    except Exception:
        return False


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_size_of_empty_sequences_equals_the_peers(count: int) -> None:
    names = [f"joint{'x' * i}" for i in range(count)]
    states = JointState(name=names, position=[0.5] * count)
    trajectory = JointTrajectory(joint_names=names, points=[JointTrajectoryPoint(positions=[0.5] * count)] * count)
    for message in (states, trajectory):
        kind = conversions.MESSAGE_TYPES[type(message)]
        data = serialize_exact(message)
        assert data == bytes(STORE.serialize_cdr(STORE.deserialize_cdr(data, kind), kind))
        assert len(data) == cdr_size(message)


def test_what_lies_in_the_padding_does_not_matter() -> None:
    """`joint` ends at byte 6 of a word: rubbish in the holes, as Fast DDS leaves it, is overwritten."""
    message = JointState(name=["joint"], position=[0.25], velocity=[0.5], effort=[0.75])
    clean = serialize_exact(message)
    peer = bytearray(
        STORE.serialize_cdr(STORE.deserialize_cdr(clean, "sensor_msgs/msg/JointState"), "sensor_msgs/msg/JointState")
    )
    holes = [i for i in range(len(peer)) if _ignored(peer, i, message)]
    assert holes
    for i in holes:
        peer[i] ^= 0xA5
    assert trim(bytes(peer) + b"rest", JointState) == clean


def test_unknown_velocity_is_nan_not_zero() -> None:
    sample = conversions.from_message("joint_states", JointState(name=["a", "b"], position=[1.0, 2.0]))
    assert isinstance(sample, JointSample)
    assert np.isnan(sample.velocity).all()
    assert sample.velocity.shape == (2,)


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        ("joint_states", JointState(name=["a", "b"], position=[1.0])),
        ("joint_trajectory", JointTrajectory(joint_names=["a"])),
        ("joint_trajectory", JointTrajectory(joint_names=["a"], points=[JointTrajectoryPoint(positions=[1.0, 2.0])])),
        ("joint_trajectory", JointTrajectory(joint_names=["a"], points=[JointTrajectoryPoint(positions=[1.0])])),
        ("cube/pose", conversions.to_message(SAMPLES[1])),
        ("task", String(data="open the drawer")),
    ],
)
def test_malformed_messages_are_refused(topic: str, message: object) -> None:
    with pytest.raises(SpecError):
        conversions.from_message(topic, message)


@pytest.mark.parametrize("field", ["velocities", "accelerations", "effort"])
def test_what_a_position_command_cannot_carry_is_refused_not_ignored(field: str) -> None:
    def message(*values: float) -> JointTrajectory:
        point = JointTrajectoryPoint(positions=[1.0, 2.0], time_from_start=Duration(sec=1), **{field: list(values)})
        return JointTrajectory(joint_names=["a", "b"], points=[point])

    for values in ((0.0, 0.3), (np.nan, 0.0), (1.0,)):
        with pytest.raises(SpecError, match=rf"{field} .*positions alone"):
            conversions.from_message("joint_trajectory", message(*values))
    for values in ((), (0.0, 0.0)):
        assert isinstance(conversions.from_message("joint_trajectory", message(*values)), CommandSample)


def test_sample_arrays_must_match_their_names() -> None:
    with pytest.raises(SpecError, match=r"expected shape \(3,\), got \(2,\)"):
        conversions.to_message(JointSample(0, NAMES, np.zeros(3), np.zeros(2), np.zeros(3)))


def test_camera_info_projects_like_the_profile() -> None:
    camera = load_robot("so101").camera("front")
    info = conversions.camera_info(camera, 7)
    u, v, w = np.asarray(info.p).reshape(3, 4) @ np.array([0.1, -0.2, 2.0, 1.0])
    assert (u / w, v / w) == pytest.approx((camera.cx + camera.fx * 0.05, camera.cy - camera.fy * 0.1))
    np.testing.assert_array_equal(np.asarray(info.k).reshape(3, 3), np.asarray(info.p).reshape(3, 4)[:, :3])
    assert (info.width, info.height, info.distortion_model) == (160, 120, "plumb_bob")
    assert info.header.frame_id == "front_optical_frame"


def test_stamps_keep_their_nanoseconds() -> None:
    for stamp_ns in (0, 1, 999_999_999, 1_000_000_000, 2_147_483_647_999_999_999):
        assert conversions.to_ns(conversions.to_time(stamp_ns)) == stamp_ns
