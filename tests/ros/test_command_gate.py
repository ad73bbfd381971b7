"""Which commands may act, by hand-made times. Needs no DDS."""

from __future__ import annotations

import time

import numpy as np
import pytest
from builtin_interfaces.msg import Duration
from rclpy.serialization import serialize_message
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from sealegs_contract.errors import SpecError
from sealegs_contract.robot import load_robot
from sealegs_contract.sample import CommandSample
from sealegs_ros.command_gate import REFUSALS, CommandGate
from sealegs_ros.commands import read_command
from sealegs_ros.robot_state import FaultLatch

ROBOT = load_robot("so101")
MS = 1_000_000
NAMES = ROBOT.joint_names


def command(stamp_ms: int, value: float = 0.1, until_ms: int = 60, names: tuple[str, ...] = NAMES) -> CommandSample:
    return CommandSample(stamp_ms * MS, names, np.full((1, len(names)), value), (until_ms * MS,))


def test_holds_before_the_first_command() -> None:
    assert CommandGate(ROBOT).target(0, 0) is None


def test_newest_command_wins_and_older_ones_are_counted() -> None:
    gate = CommandGate(ROBOT)
    assert gate.offer(command(20, 0.2), 20 * MS, 0) is None
    assert gate.offer(command(0, 0.9), 20 * MS, 0) == "older"
    assert gate.offer(command(20, 0.9), 20 * MS, 0) == "older"
    np.testing.assert_array_equal(gate.target(20 * MS, 0), 0.2)
    assert (gate.accepted, gate.refused["older"], gate.newest_ns) == (1, 2, 20 * MS)


def test_joints_are_matched_by_name() -> None:
    gate = CommandGate(ROBOT)
    shuffled = NAMES[::-1]
    position = np.arange(len(NAMES), dtype=float)[None] / 10
    assert gate.offer(CommandSample(0, shuffled, position, (60 * MS,)), 0, 0) is None
    np.testing.assert_array_equal(gate.target(0, 0), position[0, ::-1])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (command(100, names=NAMES[:-1]), "joints"),
        (command(100, names=(*NAMES, "extra")), "joints"),
        (command(100, names=(*NAMES[:-1], NAMES[0])), "joints"),
        (command(100, names=(*NAMES[:-1], "claw")), "joints"),
        (command(100, value=np.nan), "not_finite"),
        (command(100, value=-np.inf), "not_finite"),
        (command(40), "expired"),
        (command(11, until_ms=89), "expired"),
        (command(201), "future"),
        (CommandSample(100 * MS, NAMES, np.zeros((257, 6)), tuple(range(1, 258))), "points"),
    ],
)
def test_refused_commands_leave_the_held_one(bad: CommandSample, reason: str) -> None:
    gate = CommandGate(ROBOT)
    gate.offer(command(10, 0.3, until_ms=500), 10 * MS, 0)
    assert gate.offer(bad, 100 * MS, 0) == reason
    assert reason in REFUSALS
    assert gate.refused == {reason: 1}
    np.testing.assert_array_equal(gate.target(100 * MS, 0), 0.3)


@pytest.mark.parametrize(("factor", "oldest_ms"), [(0.1, 100), (1.0, 100), (4.0, 400)])
def test_old_stamps_are_stale_however_long_they_say_that_they_hold(factor: float, oldest_ms: int) -> None:
    """A node that has just begun knows no newer stamp; what is on its way for 100 ms of host time still counts."""
    gate = CommandGate(ROBOT, factor)
    assert gate.offer(command(999 - oldest_ms, until_ms=10**9), 1000 * MS, 0) == "stale"
    assert gate.offer(command(1000 - oldest_ms, until_ms=10**9), 1000 * MS, 0) is None
    assert gate.offer(command(1001 + oldest_ms, until_ms=10**9), 1000 * MS, 0) == "future"
    assert gate.offer(command(1000 + oldest_ms, until_ms=10**9), 1000 * MS, 0) is None
    assert gate.timeout_ns == {0.1: 1000, 1.0: 100, 4.0: 100}[factor] * MS


def test_a_chunk_as_long_as_may_be_is_followed() -> None:
    chunk = CommandSample(0, NAMES, np.zeros((256, 6)), tuple(20 * MS * (k + 1) for k in range(256)))
    assert CommandGate(ROBOT).offer(chunk, 0, 0) is None


def in_bytes(names: int, points: int, frame: str = "base_link", values: int = 6) -> bytes:
    point = JointTrajectoryPoint(positions=[0.25] * values, time_from_start=Duration(sec=1))
    trajectory = JointTrajectory(joint_names=[f"j{k}" * (k % 4) for k in range(names)], points=[point] * points)
    trajectory.header.stamp.sec = 7
    trajectory.header.frame_id = frame
    return bytes(serialize_message(trajectory))


@pytest.mark.parametrize("frame", ["", "a", "ab", "abc", "abcd"])
def test_serialised_commands_are_read_by_their_counts_first(frame: str) -> None:
    command = read_command(in_bytes(6, 1, frame), 6)
    assert isinstance(command, CommandSample)
    assert (command.stamp_ns, command.names[3], command.until_ns) == (7 * 10**9, "j3j3j3", (10**9,))
    np.testing.assert_array_equal(command.position, np.full((1, 6), 0.25))
    assert read_command(in_bytes(6, 257, frame), 6) == "points"
    assert read_command(in_bytes(7, 1, frame), 6) == "joints"


def test_hostile_commands_cost_next_to_nothing() -> None:
    """Taken apart, a message of 1e5 points costs seconds."""
    huge = in_bytes(6, 100_000)
    names = in_bytes(10_000, 1)
    crowded = in_bytes(6, 2_000, values=0)
    started = time.perf_counter()
    assert [read_command(data, 6) for data in (huge, names, crowded)] == ["bytes", "joints", "points"]
    assert time.perf_counter() - started < 0.01


def test_bytes_that_are_no_command_are_malformed() -> None:
    good = in_bytes(6, 1)
    no_lengths = b"\x00\x01\x00\x00" + bytes(8) + b"\xff" * 200
    for bad in (
        b"",
        good[:3],
        good[:14],
        good[:40],
        good[:-40],
        no_lengths,
        in_bytes(6, 0),
        in_bytes(6, 200, values=5),
    ):
        with pytest.raises(SpecError) as raised:
            read_command(bad, 6)
        assert len(str(raised.value)) <= 300


def test_what_the_latch_bars_is_refused_and_the_held_command_is_dropped() -> None:
    latch = FaultLatch()
    gate = CommandGate(ROBOT, latch=latch)
    assert gate.offer(command(10), 11 * MS, 0) is None
    latch.count(2)
    assert gate.offer(command(20), 21 * MS, 0) == "contested"
    assert gate.target(22 * MS, 0) is None
    latch.count(1)
    assert gate.target(22 * MS, 0) is None
    assert gate.offer(command(20), 23 * MS, 0) is None
    assert gate.target(24 * MS, 0) is not None
    latch.e_stop(True, "service")
    assert gate.target(24 * MS, 0) is None
    assert gate.offer(command(30), 31 * MS, 0) == "fault"
    assert gate.refused == {"contested": 1, "fault": 1}


def test_command_expires_by_the_robots_clock() -> None:
    gate = CommandGate(ROBOT)
    gate.offer(command(0, until_ms=60), 0, 0)
    assert gate.target(60 * MS - 1, 0) is not None
    assert gate.target(60 * MS, 0) is None


def test_rows_of_a_chunk_follow_each_other() -> None:
    gate = CommandGate(ROBOT)
    rows = np.array([[0.1], [0.2]]) * np.ones(len(NAMES))
    gate.offer(CommandSample(0, NAMES, rows, (20 * MS, 40 * MS)), 0, 0)
    assert [float(gate.target(t * MS, 0)[0]) for t in (0, 19, 20, 39)] == [0.1, 0.1, 0.2, 0.2]


def test_watchdog_follows_the_hosts_clock() -> None:
    gate = CommandGate(ROBOT)
    gate.offer(command(0, until_ms=10_000), 0, 5_000 * MS)
    assert gate.timeout_ns == 100 * MS
    assert gate.target(0, 5_100 * MS) is not None
    assert gate.target(0, 5_100 * MS + 1) is None


def test_clear_drops_the_command_but_not_the_sequence() -> None:
    gate = CommandGate(ROBOT)
    gate.offer(command(20), 20 * MS, 0)
    gate.clear(now_ns=60 * MS)
    assert gate.target(60 * MS, 0) is None
    assert gate.offer(command(40), 60 * MS, 0) == "older", "it answers an observation from before the reset"
    assert gate.offer(command(60), 60 * MS, 0) is None
