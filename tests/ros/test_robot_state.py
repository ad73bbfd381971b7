"""Hypothesis against a model of the robot node's states: whatever comes in whatever order, a fault stays."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sealegs_contract.errors import ControllerError
from sealegs_ros.robot_state import QUIET_NS, FaultLatch, RobotState

MS = 1_000_000
SOURCES = st.sampled_from(["service", "topic"])


class LatchMachine(RuleBasedStateMachine):
    """The model keeps only what the operator and the commanders did, and says from that what is allowed."""

    def __init__(self) -> None:
        super().__init__()
        self.latch = FaultLatch()
        self.now_ns = 0
        self.commanders = 0
        self.last_command_ns: int | None = None
        self.pressed: set[str] = set()
        self.faulted = False

    @rule(passed_ms=st.integers(1, 700))
    def wait(self, passed_ms: int) -> None:
        self.now_ns += passed_ms * MS

    @rule()
    def command_comes(self) -> None:
        self.latch.heard(self.now_ns)
        self.last_command_ns = self.now_ns

    @rule(commanders=st.integers(0, 3))
    def graph_changes(self, commanders: int) -> None:
        self.faulted |= commanders > 1 and self.latch.state is RobotState.ACTIVE
        self.commanders = commanders
        self.latch.count(commanders)

    @rule(command=st.booleans())
    def tick(self, command: bool) -> None:
        """As the loop does: a command is followed unless the latch bars it."""
        if command and not self.latch.bars:
            self.latch.follow()
        else:
            self.latch.hold("no command")

    @rule(source=SOURCES, repeats=st.integers(1, 2))
    def press(self, source: str, repeats: int) -> None:
        for _ in range(repeats):
            self.latch.e_stop(True, source)
        self.pressed.add(source)
        self.faulted = True

    @rule()
    def limit_passed(self) -> None:
        self.latch.fault("limit passed: wrist_roll at 3.300 rad")
        self.faulted = True

    @rule(source=SOURCES)
    def release(self, source: str) -> None:
        self.latch.e_stop(False, source)
        self.pressed.discard(source)

    @rule()
    def reset(self) -> None:
        quiet = self.last_command_ns is None or self.now_ns - self.last_command_ns >= QUIET_NS
        if self.faulted and not self.pressed and self.commanders <= 1 and quiet:
            self.latch.reset_fault(self.now_ns)
            self.faulted = False
            assert self.latch.state is RobotState.HOLD
        else:
            with pytest.raises(ControllerError, match="cannot reset the fault"):
                self.latch.reset_fault(self.now_ns)

    @invariant()
    def latched(self) -> None:
        assert (self.latch.state is RobotState.FAULT) == self.faulted
        assert self.latch.emergency_stop == bool(self.pressed)
        assert bool(self.latch.bars) == (self.faulted or self.commanders > 1)
        assert self.latch.reason
        assert set(self.latch.status()) == {"state", "reason", "emergency_stop"}


TestLatch = LatchMachine.TestCase
TestLatch.settings = settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True)


def test_every_change_is_told_with_its_reason() -> None:
    latch = FaultLatch()
    latch.count(1)
    latch.follow()
    latch.count(2)
    latch.e_stop(True, "topic")
    latch.e_stop(True, "topic")
    latch.e_stop(True, "service")
    latch.e_stop(False, "topic")
    latch.e_stop(False, "service")
    latch.count(1)
    latch.reset_fault(0)
    cause = "second commander: 2 publishers of joint_trajectory"
    assert list(latch.changes) == [
        "HOLD -> ACTIVE: following commands",
        f"ACTIVE -> FAULT: {cause}",
        f"FAULT -> FAULT: {cause}; emergency stop pressed (topic)",
        f"FAULT -> FAULT: {cause}; emergency stop pressed (service)",
        f"FAULT -> FAULT: {cause}; emergency stop released (topic), still pressed (service)",
        f"FAULT -> FAULT: {cause}; emergency stop released (service)",
        "FAULT -> HOLD: fault reset by the operator",
    ]


def test_a_fault_keeps_the_reason_that_it_began_with() -> None:
    latch = FaultLatch()
    latch.e_stop(True, "topic wall")
    latch.fault("limit passed: wrist_roll at 3.300 rad")
    assert list(latch.changes) == ["HOLD -> FAULT: emergency stop pressed (topic wall)"]


def test_many_commanders_may_be_allowed() -> None:
    latch = FaultLatch(many_commanders=True)
    latch.follow()
    latch.count(3)
    assert latch.state is RobotState.ACTIVE
    assert not latch.bars
