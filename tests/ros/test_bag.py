"""Bags are read back with two independent readers, survive kill -9, and keep their prefix on a full disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from mcap.exceptions import EndOfFile, McapError
from mcap.reader import make_reader
from mcap.records import Chunk, Message, Metadata
from mcap.stream_reader import StreamReader
from mcap_ros2.decoder import DecoderFactory
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability

from sealegs_contract.episode import EpisodeInfo, Outcome
from sealegs_contract.errors import BagError
from sealegs_contract.robot import RobotProfile, load_robot, parse_robot
from sealegs_contract.sample import CommandSample, ImageSample, JointSample, PoseSample
from sealegs_ros import conversions
from sealegs_ros.bag import BagWriter

PERIOD_NS = 20_000_000


@pytest.fixture
def robot() -> RobotProfile:
    return load_robot("so101")


@pytest.fixture
def info(robot: RobotProfile) -> EpisodeInfo:
    return EpisodeInfo(
        task="drawer",
        task_text="open the drawer",
        operator="mixed",
        robot=robot.name,
        profile_digest=robot.digest,
        seed=7,
    )


def joints(robot: RobotProfile, tick: int) -> JointSample:
    position = robot.home_rad + 0.01 * tick
    return JointSample(tick * PERIOD_NS, robot.joint_names, position, position * 0, np.full(len(position), np.nan))


def fill(bag: BagWriter, robot: RobotProfile, ticks: int) -> None:
    bag.write_task(0)
    for tick in range(ticks):
        now = tick * PERIOD_NS
        bag.write_message("/clock", conversions.clock_message(now), now)
        bag.write(PoseSample(now, "cube", "base_link", np.array([0.1, 0.2, tick]), np.array([0, 0, 0, 1.0])), now)
        if tick % 5 == 0:
            bag.write(ImageSample(now, "front", b"\xff\xd8" + bytes([tick]) * 100), now)
        bag.write(joints(robot, tick), now)
        target = joints(robot, tick + 1).position[None]
        bag.write(CommandSample(now, robot.joint_names, target, (3 * PERIOD_NS,)), now)


def test_two_independent_readers_agree(tmp_path: Path, robot: RobotProfile, info: EpisodeInfo) -> None:
    with BagWriter(tmp_path / "episode", robot, info, namespace="arm") as bag:
        fill(bag, robot, 20)
        status = DiagnosticStatus(name="robot_node", level=conversions.WARN, message="late")
        bag.write_message("/diagnostics", DiagnosticArray(status=[status]), 0)
        bag.drops["/arm/joint_states"] += 2
        bag.close(Outcome.SUCCESS)
    expected = {"/clock": 20, "/arm/objects/cube/pose": 20, "/arm/joint_states": 20, "/arm/joint_trajectory": 20}
    expected |= {"/arm/task": 1, "/diagnostics": 1}
    expected |= {"/arm/camera/front/image_raw/compressed": 4, "/arm/camera/front/camera_info": 4}

    with AnyReader([tmp_path / "episode"]) as reader:
        assert {c.topic: c.msgcount for c in reader.connections} == expected
        assert (reader.start_time, reader.duration) == (0, 19 * PERIOD_NS + 1)
        peer = {}
        for connection, _, data in reader.messages():
            peer.setdefault(connection.topic, []).append(reader.deserialize(data, connection.msgtype))
        latched = next(c for c in reader.connections if c.topic == "/arm/task")
        assert latched.ext.offered_qos_profiles[0].durability == QosDurability.TRANSIENT_LOCAL

    with (tmp_path / "episode" / "episode_0.mcap").open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        seen = {}
        for _, channel, record, message in reader.iter_decoded_messages():
            seen.setdefault(channel.topic, []).append((record, message))
        records = [record for record in reader.iter_metadata() if record.name == "sealegs"]

    assert {topic: len(messages) for topic, messages in seen.items()} == expected
    for tick, (ours, theirs) in enumerate(zip(seen["/arm/joint_states"], peer["/arm/joint_states"], strict=True)):
        sample = joints(robot, tick)
        assert ours[0].log_time == ours[0].publish_time == sample.stamp_ns
        for message in (ours[1], theirs):
            assert tuple(message.name) == robot.joint_names
            np.testing.assert_array_equal(message.position, sample.position)
            np.testing.assert_array_equal(message.effort, sample.effort)
    for (_, ours), theirs in zip(seen["/arm/joint_trajectory"], peer["/arm/joint_trajectory"], strict=True):
        np.testing.assert_array_equal(ours.points[0].positions, theirs.points[0].positions)
        assert theirs.points[0].time_from_start.nanosec == 3 * PERIOD_NS
    assert bytes(peer["/arm/camera/front/image_raw/compressed"][1].data) == b"\xff\xd8" + bytes([5]) * 100
    info_message = peer["/arm/camera/front/camera_info"][1]
    assert info_message.header.stamp.nanosec == 5 * PERIOD_NS
    assert info_message.k[0] == robot.camera("front").fx
    assert peer["/arm/task"][0].data == "open the drawer"
    assert peer["/diagnostics"][0].status[0].message == "late"

    assert [json.loads(record.metadata["episode"])["outcome"] for record in records] == ["unknown", "success"]
    assert parse_robot(json.loads(records[0].metadata["profile"]), "bag").digest == robot.digest
    assert json.loads(records[-1].metadata["drops"]) == {"/arm/joint_states": 2}


def test_metadata_file_has_what_rosbag2_reads(tmp_path: Path, robot: RobotProfile, info: EpisodeInfo) -> None:
    with BagWriter(tmp_path / "e", robot, info) as bag:
        fill(bag, robot, 3)
    content = yaml.safe_load((tmp_path / "e" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert (content["version"], content["storage_identifier"]) == (9, "mcap")
    assert content["relative_file_paths"] == ["e_0.mcap"]
    assert content["duration"]["nanoseconds"] == 2 * PERIOD_NS
    topic = next(t for t in content["topics_with_message_count"] if t["topic_metadata"]["name"] == "/joint_states")
    assert topic["message_count"] == 3
    # REP-2016 hash of sensor_msgs/JointState, as every Jazzy installation has it
    known = "RIHS01_a13ee3a330e346c9d87b5aa18d24e11690752bd33a0350f11c5882bc9179260e"
    assert topic["topic_metadata"]["type_description_hash"] == known
    assert all(isinstance(value, str) for value in content["custom_data"].values())
    assert EpisodeInfo.model_validate_json(content["custom_data"]["episode"]) == info


def test_existing_folder_is_refused(tmp_path: Path, robot: RobotProfile, info: EpisodeInfo) -> None:
    with pytest.raises(BagError, match="File exists"):
        BagWriter(tmp_path, robot, info)


def test_unfinished_block_is_marked_aborted(tmp_path: Path, robot: RobotProfile, info: EpisodeInfo) -> None:
    def crash() -> None:
        with BagWriter(tmp_path / "e", robot, info) as bag:
            bag.write_task(0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        crash()
    content = yaml.safe_load((tmp_path / "e" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert json.loads(content["custom_data"]["episode"])["outcome"] == "aborted"


def test_discard_leaves_nothing(tmp_path: Path, robot: RobotProfile, info: EpisodeInfo) -> None:
    bag = BagWriter(tmp_path / "e", robot, info)
    fill(bag, robot, 3)
    bag.discard()
    assert list(tmp_path.iterdir()) == []


def prefix_of(path: Path) -> tuple[int, int, dict[str, str]]:
    """Messages, newest log time and the metadata record of an MCAP file that may end anywhere."""
    count, newest, record = 0, 0, {}
    with path.open("rb") as stream:
        try:
            for item in StreamReader(stream).records:
                assert not isinstance(item, Chunk)
                if isinstance(item, Message):
                    count, newest = count + 1, max(newest, item.log_time)
                if isinstance(item, Metadata):
                    record = item.metadata
        except (EndOfFile, McapError):
            pass
    return count, newest, record


def test_full_disk_keeps_the_prefix(
    tmp_path: Path, robot: RobotProfile, info: EpisodeInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag = BagWriter(tmp_path / "e", robot, info, flush_ms=0.0)
    fill(bag, robot, 10)
    path = tmp_path / "e" / "e_0.mcap"
    before = path.read_bytes()
    real = os.write

    def half_then_full(handle: int, data: memoryview) -> int:
        if len(data) > 8:
            return real(handle, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", half_then_full)
    with pytest.raises(BagError, match="No space left"):
        bag.write(joints(robot, 10), 0)
    with pytest.raises(BagError, match="its prefix is kept"):
        bag.write(joints(robot, 11), 0)
    monkeypatch.undo()
    bag.close(Outcome.SUCCESS)
    assert path.read_bytes() == before
    count, _, _ = prefix_of(path)
    assert count == 1 + 10 * 4 + 2 * 2
    assert not (tmp_path / "e" / "metadata.yaml").exists()
