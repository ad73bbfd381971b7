"""Which commands may act, by hand-made times. Needs no DDS."""

from __future__ import annotations

import numpy as np
import pytest

from sealegs_contract.robot import load_robot
from sealegs_contract.sample import CommandSample
from sealegs_ros.command_gate import REFUSALS, CommandGate
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
        (command(201), "future"),
    ],
)
def test_refused_commands_leave_the_held_one(bad: CommandSample, reason: str) -> None:
    gate = CommandGate(ROBOT)
    gate.offer(command(10, 0.3, until_ms=500), 10 * MS, 0)
    assert gate.offer(bad, 100 * MS, 0) == reason
    assert reason in REFUSALS
    assert gate.refused == {reason: 1}
    np.testing.assert_array_equal(gate.target(100 * MS, 0), 0.3)


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
