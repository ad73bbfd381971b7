"""Bags made with the public mcap and rosbags libraries, independently of the code under test."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from sealegs_contract.episode import EpisodeInfo
from sealegs_contract.robot import RobotProfile, load_robot

STORE = get_typestore(Stores.ROS2_JAZZY)
TYPES = STORE.types
PERIOD = 20_000_000
START = 5_000_000_000


def jpeg(value: int, width: int = 160, height: int = 120) -> bytes:
    """A textured JPEG whose mean colour tells frames apart."""
    rng = np.random.default_rng(value)
    pixels = np.clip(rng.normal(value % 200 + 20, 15, (height // 8, width // 8, 3)), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((width, height)).save(stream, "JPEG", quality=85)
    return stream.getvalue()


def _time(ns: int) -> Any:
    return TYPES["builtin_interfaces/msg/Time"](sec=ns // 10**9, nanosec=ns % 10**9)


def _header(ns: int) -> Any:
    return TYPES["std_msgs/msg/Header"](stamp=_time(ns), frame_id="")


def joint_state(ns: int, names: tuple[str, ...], position: Any, velocity: Any, effort: Any) -> Any:
    arrays = [np.asarray(a, np.float64) for a in (position, velocity, effort)]
    return TYPES["sensor_msgs/msg/JointState"](_header(ns), list(names), *arrays)


def trajectory(ns: int, names: tuple[str, ...], position: Any, until_ns: int = 100_000_000) -> Any:
    empty = np.empty(0)
    duration = TYPES["builtin_interfaces/msg/Duration"](sec=until_ns // 10**9, nanosec=until_ns % 10**9)
    point = TYPES["trajectory_msgs/msg/JointTrajectoryPoint"](
        np.asarray(position, float), empty, empty, empty, duration
    )
    return TYPES["trajectory_msgs/msg/JointTrajectory"](_header(ns), list(names), [point])


def pose(ns: int, xyz: Any) -> Any:
    point = TYPES["geometry_msgs/msg/Point"](*map(float, xyz))
    quaternion = TYPES["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    return TYPES["geometry_msgs/msg/PoseStamped"](_header(ns), TYPES["geometry_msgs/msg/Pose"](point, quaternion))


def image(ns: int, data: bytes) -> Any:
    return TYPES["sensor_msgs/msg/CompressedImage"](_header(ns), "jpeg", np.frombuffer(data, np.uint8))


def text(value: str) -> Any:
    return TYPES["std_msgs/msg/String"](value)


Message = tuple[int, str, Any]  # log time, topic, rosbags message


@dataclass
class Recipe:
    """An episode of `steps` rows at 50 Hz with known numbers; knobs leave messages out."""

    robot: RobotProfile
    steps: int = 20
    seed: int = 0
    start: int = START
    objects: tuple[str, ...] = ("gripper", "handle", "drawer")
    cameras: tuple[str, ...] = ("front",)
    first_command: int = 0
    skip: dict[str, set[int]] = field(default_factory=dict)

    def joints(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([self.seed, step])
        return rng.uniform(-1, 1, 6), rng.uniform(-2, 2, 6)

    def target(self, step: int) -> np.ndarray:
        return np.random.default_rng([self.seed, step, 1]).uniform(-1, 1, 6)

    def place(self, name: str, step: int) -> np.ndarray:
        return np.random.default_rng([self.seed, step, 2, len(name)]).uniform(0, 1, 3)

    def state(self, step: int) -> np.ndarray:
        position, velocity = self.joints(step)
        return np.concatenate([position, velocity, *(self.place(name, step) for name in self.objects)]).astype(
            np.float32
        )

    def messages(self) -> list[Message]:
        result: list[Message] = [(self.start, "/task", text("open the drawer"))]
        names = self.robot.joint_names

        def add(stream: str, step: int, topic: str, message: Any) -> None:
            if step not in self.skip.get(stream, set()):
                result.append((self.start + step * PERIOD, topic, message))

        for step in range(self.steps):
            ns = self.start + step * PERIOD
            for name in self.objects:
                add(f"objects/{name}/pose", step, f"/objects/{name}/pose", pose(ns, self.place(name, step)))
            for camera in self.cameras:
                if step % 5 == 0:
                    data = jpeg(1000 * self.seed + step)
                    add(f"camera/{camera}", step, f"/camera/{camera}/image_raw/compressed", image(ns, data))
            position, velocity = self.joints(step)
            add("joint_states", step, "/joint_states", joint_state(ns, names, position, velocity, np.zeros(6)))
            if step >= self.first_command:
                add("joint_trajectory", step, "/joint_trajectory", trajectory(ns, names, self.target(step)))
        return result


@pytest.fixture(scope="session")
def robot() -> RobotProfile:
    return load_robot("so101")


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """Builders of single messages, for tests that bend an episode."""
    return SimpleNamespace(
        joint_state=joint_state,
        trajectory=trajectory,
        pose=pose,
        image=image,
        text=text,
        jpeg=jpeg,
        period=PERIOD,
        start=START,
    )


@pytest.fixture
def recipe(robot: RobotProfile) -> Callable[..., Recipe]:
    return lambda **changes: Recipe(robot, **changes)


@pytest.fixture
def info(robot: RobotProfile) -> Callable[..., EpisodeInfo]:
    def make(**changes: Any) -> EpisodeInfo:
        content = {
            "task": "drawer",
            "task_text": "open the drawer",
            "robot": robot.name,
            "profile_digest": robot.digest,
        }
        return EpisodeInfo.model_validate({**content, **changes})

    return make


@pytest.fixture
def mcap_bag(robot: RobotProfile) -> Callable[..., Path]:
    """Write messages into FOLDER/NAME_0.mcap with the mcap library: metadata record at both ends."""
    from mcap.writer import CompressionType
    from mcap.writer import Writer as McapWriter

    def write(
        folder: Path, messages: list[Message], episode: EpisodeInfo | None = None, chunk_size: int = 1 << 16,
        compression: CompressionType = CompressionType.ZSTD, profile: RobotProfile = robot,
    ) -> Path:  # fmt: skip
        folder.mkdir(parents=True)
        with (folder / f"{folder.name}_0.mcap").open("wb") as stream:
            writer = McapWriter(stream, chunk_size=chunk_size, compression=compression)
            writer.start("ros2", "independent")
            channels: dict[str, int] = {}

            def describe(outcome: str | None) -> None:
                if episode is not None:
                    content = episode.model_dump(mode="json") | ({"outcome": outcome} if outcome else {})
                    record = {"episode": json.dumps(content), "profile": profile.model_dump_json()}
                    writer.add_metadata("sealegs", record)

            describe("unknown")
            for log_time, topic, message in messages:
                kind = message.__msgtype__
                if topic not in channels:
                    definition, _ = STORE.generate_msgdef(kind, ros_version=2)
                    schema = writer.register_schema(kind, "ros2msg", definition.encode())
                    channels[topic] = writer.register_channel(topic, "cdr", schema)
                data = message if isinstance(message, bytes) else bytes(STORE.serialize_cdr(message, kind))
                writer.add_message(channels[topic], log_time, data, log_time)
            describe(None)
            writer.finish()
        return folder

    return write


@pytest.fixture
def rosbag2_bag() -> Callable[..., Path]:
    """Write a bag with the rosbags library, in either storage, with metadata.yaml."""

    def write(folder: Path, messages: list[Message], sqlite: bool = False) -> Path:
        plugin = StoragePlugin.SQLITE3 if sqlite else StoragePlugin.MCAP
        with Writer(folder, version=9, storage_plugin=plugin) as writer:
            connections: dict[str, Any] = {}
            for log_time, topic, message in messages:
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=STORE)
                writer.write(connections[topic], log_time, STORE.serialize_cdr(message, message.__msgtype__))
        return folder

    return write
