"""A robot's messages for the recorder, the same for the same seed: topics and rates of the so101 profile."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from sealegs_contract.episode import EpisodeInfo
from sealegs_contract.robot import RobotProfile, load_robot

ROBOT = "so101"
IMAGE_BYTES = 20_000
IMAGE_TYPE = "sensor_msgs/msg/CompressedImage"
STAMP = struct.Struct("<iI")
"""Seconds and nanoseconds of a header's stamp, behind the encapsulation's four bytes."""


@dataclass(frozen=True)
class Stream:
    """One topic: its type, a serialised message of it, and every how many ticks it comes."""

    topic: str
    type_name: str
    template: bytes
    every: int


@cache
def robot() -> RobotProfile:
    """Whose messages these are."""
    return load_robot(ROBOT)


def episode() -> EpisodeInfo:
    """What the bag says of them."""
    return EpisodeInfo(task="push", task_text="push it", robot=ROBOT, profile_digest=robot().digest)


@cache
def streams() -> tuple[Stream, ...]:
    """Every periodic topic of the profile, and the commands."""
    from sealegs_contract import topics
    from sealegs_ros.recording import recorded_streams

    tick = robot().control_period_ns
    recorded = recorded_streams(robot(), lambda topic: f"/{topic.lstrip('/')}")
    periods = {topic: period for topic, (_, period) in recorded.items() if period}
    periods[f"/{topics.JOINT_TRAJECTORY}"] = tick
    return tuple(Stream(t, recorded[t][0], _template(t.lstrip("/")), period // tick) for t, period in periods.items())


def _template(topic: str) -> bytes:
    from sealegs_ros import conversions
    from sealegs_ros.cdr import serialize_exact

    return serialize_exact(_message(topic, conversions))


def _message(topic: str, conversions: Any) -> Any:
    from sealegs_contract import topics
    from sealegs_contract.sample import CommandSample, ImageSample, JointSample, PoseSample

    profile, parts = robot(), topic.split("/")
    home = profile.home_rad
    if topic == topics.JOINT_STATES:
        return conversions.to_message(JointSample(0, profile.joint_names, home, 0 * home, 0 * home))
    if topic == topics.JOINT_TRAJECTORY:
        horizon = 5 * profile.control_period_ns
        return conversions.to_message(CommandSample(0, profile.joint_names, home[None], (horizon,)))
    if parts[0] == "objects":
        return conversions.to_message(PoseSample(0, parts[1], "base_link", np.zeros(3), np.eye(4)[3]))
    if topic == topics.camera_info(parts[1]):
        return conversions.camera_info(profile.camera(parts[1]), 0)
    return conversions.to_message(ImageSample(0, parts[1], bytes(IMAGE_BYTES)))


def messages(seed: int) -> Iterator[tuple[int, str, str, bytes]]:
    """(tick, topic, type, bytes) without end: stamps are the tick's, and images are noise, which nothing compresses."""
    rng = np.random.default_rng(seed)
    tick = 0
    while True:
        stamp = STAMP.pack(*divmod(tick * robot().control_period_ns, 1_000_000_000))
        for stream in streams():
            if tick % stream.every == 0:
                body = stream.template[4 + STAMP.size :]
                if stream.type_name == IMAGE_TYPE:
                    body = body[:-IMAGE_BYTES] + rng.bytes(IMAGE_BYTES)
                yield tick, stream.topic, stream.type_name, stream.template[:4] + stamp + body
        tick += 1
