"""The writer's thread under a slow, full and missing disk: everything lost is counted, nothing blocks the caller."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from sensor_msgs.msg import JointState

from sealegs_contract.episode import EpisodeInfo, Outcome
from sealegs_contract.errors import BagError
from sealegs_contract.robot import load_robot
from sealegs_contract.sample import JointSample
from sealegs_ros import conversions
from sealegs_ros.bag import BagWriter
from sealegs_ros.cdr import serialize_exact
from sealegs_ros.recording import EpisodeWriter, RawMessage, recorded_streams

ROBOT = load_robot("so101")
INFO = EpisodeInfo(task="push", task_text="push it", robot=ROBOT.name, profile_digest=ROBOT.digest)


def message(tick: int, size: int = 6) -> RawMessage:
    names = ROBOT.joint_names[:size]
    sample = JointSample(tick, names, np.full(size, float(tick)), np.zeros(size), np.zeros(size))
    data = serialize_exact(conversions.to_message(sample))
    return RawMessage("/joint_states", "sensor_msgs/msg/JointState", data, tick, tick)


@pytest.fixture
def writer() -> Iterator[EpisodeWriter]:
    made = EpisodeWriter(capacity=20)
    yield made
    made.shutdown()


def wait(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.005)


def read(folder: Path) -> tuple[list[int], dict[str, str]]:
    """Log times and the last `sealegs` record of a finished bag."""
    with (folder / f"{folder.name}_0.mcap").open("rb") as stream:
        reader = make_reader(stream)
        times = [record.log_time for _, _, record in reader.iter_messages()]
        return times, [record for record in reader.iter_metadata() if record.name == "sealegs"][-1].metadata


def test_a_push_never_waits_for_the_disk(
    tmp_path: Path, writer: EpisodeWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That what is dropped is counted: tests/faults/test_recording.py."""
    real = os.write

    def slow(handle: int, data: memoryview) -> int:
        time.sleep(0.02)
        return real(handle, data)

    monkeypatch.setattr(os, "write", slow)
    writer.start(partial(BagWriter, tmp_path / "e", ROBOT, INFO, flush_ms=0.0))
    began = time.monotonic()
    accepted = [tick for tick in range(300) if writer.push(message(tick))]
    writer.stop(Outcome.SUCCESS)
    # At 20 ms a message the disk needs 6 s.
    assert time.monotonic() - began < 2.0
    wait(lambda: writer.finished, "the bag")
    assert len(accepted) < 300


def test_full_disk_is_an_alarm_and_the_next_episode_works(
    tmp_path: Path, writer: EpisodeWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.start(partial(BagWriter, tmp_path / "a", ROBOT, INFO, flush_ms=0.0))
    writer.push(message(0))
    wait(lambda: writer.written == 1, "the first message")

    def full(handle: int, data: memoryview) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    writer.push(message(1))
    wait(lambda: writer.alarm, "the alarm")
    writer.push(message(2))
    writer.push(message(3))
    wait(lambda: writer.skipped == 2, "the skipped messages")
    writer.stop(Outcome.SUCCESS)
    assert "No space left" in str(writer.alarm)
    wait(lambda: writer.depth == 0, "the queue")
    monkeypatch.undo()
    writer.start(partial(BagWriter, tmp_path / "b", ROBOT, INFO))
    writer.push(message(4))
    writer.stop(Outcome.FAILURE)
    wait(lambda: writer.finished, "the second bag")
    assert writer.finished == [tmp_path / "b"]
    assert not (tmp_path / "a" / "metadata.yaml").exists()
    assert read(tmp_path / "b")[0] == [4]
    writer.check()


def test_folder_in_use_is_an_alarm(tmp_path: Path, writer: EpisodeWriter) -> None:
    writer.start(partial(BagWriter, tmp_path, ROBOT, INFO))
    wait(lambda: writer.alarm, "the alarm")
    assert "File exists" in str(writer.alarm)
    writer.stop(Outcome.SUCCESS)


def test_wrong_order_is_refused(tmp_path: Path, writer: EpisodeWriter) -> None:
    with pytest.raises(BagError, match="start one first"):
        writer.stop(None)
    assert not writer.push(message(0))
    writer.start(partial(BagWriter, tmp_path / "e", ROBOT, INFO))
    with pytest.raises(BagError, match="stop or discard"):
        writer.start(partial(BagWriter, tmp_path / "f", ROBOT, INFO))


def test_bytes_that_foreign_publishers_append_are_trimmed(tmp_path: Path, writer: EpisodeWriter) -> None:
    """A JointState without velocities, as many drivers send it, must be readable by a strict peer."""
    from rclpy.serialization import serialize_message
    from rosbags.highlevel import AnyReader

    data = bytes(serialize_message(JointState(name=["a", "b", "c"], position=[1.0, 2.0, 3.0])))
    writer.start(partial(BagWriter, tmp_path / "e", ROBOT, INFO))
    writer.push(RawMessage("/joint_states", "sensor_msgs/msg/JointState", data, 1, 1))
    writer.stop(Outcome.UNKNOWN)
    wait(lambda: writer.finished, "the bag")
    with AnyReader([tmp_path / "e"]) as reader:
        ((connection, _, raw),) = reader.messages()
        assert list(reader.deserialize(raw, connection.msgtype).position) == [1.0, 2.0, 3.0]


def test_bug_in_the_thread_surfaces(tmp_path: Path) -> None:
    writer = EpisodeWriter()
    writer.start(partial(BagWriter, tmp_path / "e", ROBOT, INFO))
    writer.push(RawMessage("/joint_states", "sensor_msgs/msg/JointState", b"no CDR", 1, 1))
    wait(lambda: writer._crash, "the crash")
    with pytest.raises(Exception, match="."):
        writer.check()


def test_recorded_streams_follow_the_profile() -> None:
    streams = recorded_streams(ROBOT, lambda topic: topic if topic.startswith("/") else f"/arm/{topic}")
    assert len(streams) == 5 + len(ROBOT.objects) + 2 * len(ROBOT.cameras)
    assert streams["/arm/camera/wrist/image_raw/compressed"] == ("sensor_msgs/msg/CompressedImage", 100_000_000)
    assert streams["/arm/objects/cube/pose"] == ("geometry_msgs/msg/PoseStamped", 20_000_000)
    assert {"/clock", "/diagnostics", "/arm/task", "/arm/joint_trajectory"} <= set(streams)
