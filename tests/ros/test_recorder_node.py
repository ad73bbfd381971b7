"""recorder_node as a real process, fed by a real publisher: episodes, outcomes, drops, kill -9."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from mcap.exceptions import EndOfFile, McapError
from mcap.records import Channel, Message
from mcap.stream_reader import StreamReader
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from sealegs_contract.episode import EpisodeInfo
from sealegs_contract.robot import load_robot
from sealegs_contract.sample import ImageSample, JointSample, PoseSample
from sealegs_ros import conversions, qos

ROBOT = load_robot("so101")


class Robot:
    """Publishes what a robot node would, under a namespace, from the test's process."""

    def __init__(self, client: Any, namespace: str) -> None:
        node = client.node
        self.client = client
        self.tick = 0
        self.joints = node.create_publisher(JointState, f"{namespace}/joint_states", qos.STREAM)
        self.pose = node.create_publisher(PoseStamped, f"{namespace}/objects/cube/pose", qos.STREAM)
        self.image = node.create_publisher(CompressedImage, f"{namespace}/camera/front/image_raw/compressed", qos.IMAGE)
        self.command = node.create_publisher(JointTrajectory, f"{namespace}/joint_trajectory", qos.COMMAND)
        self.task = node.create_publisher(String, f"{namespace}/task", qos.LATCHED)
        self.task.publish(String(data="open the drawer"))
        publishers = (self.joints, self.pose, self.image, self.command, self.task)
        client.spin_until(
            lambda: all(p.get_subscription_count() for p in publishers), what="the recorder's subscriptions"
        )

    def publish(self, ticks: int, skip: int = 0) -> None:
        """`ticks` control periods at about 50 Hz; `skip` leaves that many stamps out first."""
        self.tick += skip
        for _ in range(ticks):
            self.tick += 1
            now = self.tick * ROBOT.control_period_ns
            position = ROBOT.home_rad + 1e-3 * self.tick
            self.pose.publish(conversions.to_message(PoseSample(now, "cube", "base_link", np.zeros(3), np.eye(4)[3])))
            if self.tick % 5 == 0:
                self.image.publish(conversions.to_message(ImageSample(now, "front", bytes([self.tick % 256]) * 500)))
            self.joints.publish(
                conversions.to_message(JointSample(now, ROBOT.joint_names, position, 0 * position, 0 * position))
            )
            point = JointTrajectoryPoint(positions=list(position))
            self.command.publish(JointTrajectory(joint_names=list(ROBOT.joint_names), points=[point]))
            self.client.spin_for(0.02)


def custom(folder: Path) -> dict[str, str]:
    """custom_data of a bag's metadata.yaml."""
    return dict(yaml.safe_load((folder / "metadata.yaml").read_text())["rosbag2_bagfile_information"]["custom_data"])


def episode_of(folder: Path) -> EpisodeInfo:
    return EpisodeInfo.model_validate_json(custom(folder)["episode"])


def test_episodes_with_outcomes_and_counted_gaps(client: Any, start_node: Callable[..., Any], tmp_path: Path) -> None:
    bags = tmp_path / "bags"
    recorder = start_node("recorder_node", "-r", "__ns:=/arm", bag_dir=bags, task="drawer", operator="me", seed=5)
    finished = client.collect(String, "/arm/recorder_node/finished", qos.LATCHED)
    diagnostics = client.collect(DiagnosticArray, "/diagnostics")
    robot = Robot(client, "/arm")
    assert not client.call(SetBool, "/arm/recorder_node/stop_episode").success

    started = client.call(Trigger, "/arm/recorder_node/start_episode")
    assert started.success, started.message
    assert not client.call(Trigger, "/arm/recorder_node/start_episode").success
    first = robot.tick
    robot.publish(20)
    robot.publish(10, skip=3)
    client.spin_until(lambda: any(s.level == conversions.WARN for d in diagnostics for s in d.status), 5, "a warning")
    stopped = client.call(SetBool, "/arm/recorder_node/stop_episode", SetBool.Request(data=True))
    assert (stopped.success, stopped.message) == (True, started.message)  # also after a start that was refused
    client.spin_until(lambda: finished, 5, "the finished bag")
    folder = Path(finished[0].data)
    assert folder.parent == bags
    assert str(folder) == started.message

    with AnyReader([folder]) as reader:
        info = episode_of(folder)
        assert (info.outcome, info.task, info.task_text) == ("success", "drawer", "open the drawer")
        assert (info.operator, info.seed, info.origin, info.profile_digest) == ("me", 5, "real", ROBOT.digest)
        counts = {c.topic: c.msgcount for c in reader.connections}
        assert counts["/arm/joint_states"] == counts["/arm/joint_trajectory"] == counts["/arm/objects/cube/pose"] == 30
        assert counts["/arm/task"] == 1
        drops = json.loads(custom(folder)["drops"])
        assert drops["/arm/joint_states gap"] == drops["/arm/objects/cube/pose gap"] == 3
        stamps = [
            m.header.stamp.sec * 10**9 + m.header.stamp.nanosec
            for c, _, data in reader.messages()
            if c.topic == "/arm/joint_states" and (m := reader.deserialize(data, c.msgtype))
        ]
        expected = [first + k for k in (*range(1, 21), *range(24, 34))]
        assert [stamp // ROBOT.control_period_ns for stamp in stamps] == expected

    client.call(Trigger, "/arm/recorder_node/start_episode")
    robot.publish(3)
    discarded = client.call(Trigger, "/arm/recorder_node/discard_episode")
    assert discarded.success
    client.call(Trigger, "/arm/recorder_node/start_episode")
    robot.publish(3)
    assert recorder.stop() == 0, recorder.log
    remaining = sorted(p for p in bags.iterdir() if p != folder)
    assert len(remaining) == 1
    assert not Path(discarded.message).exists()
    assert episode_of(remaining[0]).outcome == "aborted"


def test_killed_recorder_leaves_a_readable_prefix(client: Any, start_node: Callable[..., Any], tmp_path: Path) -> None:
    recorder = start_node("recorder_node", bag_dir=tmp_path / "bags")
    robot = Robot(client, "")
    assert client.call(Trigger, "/recorder_node/start_episode").success
    client.spin_for(0.2)
    robot.publish(40)

    def lacks() -> int:
        """How many ticks the joint states in the file that is on the disk now are behind."""
        (path,) = (tmp_path / "bags").glob("*/*_0.mcap")
        assert not (path.parent / "metadata.yaml").exists()
        names: dict[int, str] = {}
        newest = 0
        with path.open("rb") as stream, contextlib.suppress(EndOfFile, McapError):
            for record in StreamReader(stream).records:
                if isinstance(record, Channel):
                    names[record.id] = record.topic
                elif isinstance(record, Message) and names[record.channel_id] == "/joint_states":
                    newest = max(newest, record.publish_time)
        return robot.tick - newest // ROBOT.control_period_ns

    # 100 ms of lost chunk and one tick in flight, in periods of 20 ms. A busy machine may keep the recorder waiting.
    begin = time.monotonic()
    while lacks() > 6:
        assert time.monotonic() < begin + 15
        robot.publish(1)
    recorder.kill()
    assert 0 <= lacks() <= 6


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [({"robot": "r2d2"}, "unknown robot 'r2d2'"), ({"bag_dir": "/proc/bags"}, "cannot make the folder")],
)
def test_bad_parameters_end_with_one_line(
    start_node: Callable[..., Any], parameters: dict[str, object], reason: str
) -> None:
    node = start_node("recorder_node", **parameters)
    assert node.process.wait(60) == 2
    assert [line for line in node.log.splitlines() if reason in line], node.log
    assert "Traceback" not in node.log
