"""FaultLatch: whether the robot node may follow commands. Pure; time comes in as integers of the monotonic clock.

    HOLD <--commands stop, or come--> ACTIVE;  ACTIVE --second commander--> FAULT
    any --emergency stop, limit passed--> FAULT;  FAULT --reset_fault--> HOLD

Only an operator's call ends FAULT. While nobody is followed, a second commander latches nothing, but neither is
followed: the middleware remembers a killed commander for 20 s, and its successor may wait for that.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum

from sealegs_contract import topics
from sealegs_contract.errors import ControllerError

QUIET_NS = 500_000_000
"""A fault may be reset once nobody has sent a command for so long."""
KEPT_CHANGES = 64


class RobotState(StrEnum):
    """What the robot node does: keeps a pose, follows commands, or keeps a pose until an operator resets it."""

    HOLD = "HOLD"
    ACTIVE = "ACTIVE"
    FAULT = "FAULT"


class FaultLatch:
    """The states, and who presses the emergency stop. `changes` are lines for the log; whoever logs them clears it.

    The emergency stop is pressed while any of its sources says so: releasing one does not undo another.
    """

    def __init__(self, many_commanders: bool = False, quiet_ns: int = QUIET_NS) -> None:
        self.state = RobotState.HOLD
        self.reason = "no command yet"
        self.commanders = 0
        self.changes: deque[str] = deque(maxlen=KEPT_CHANGES)
        self._many = many_commanders
        self._quiet_ns = quiet_ns
        self._pressed: set[str] = set()
        self._cause = self.reason
        self._heard_ns: int | None = None

    @property
    def emergency_stop(self) -> bool:
        """Whether it is pressed."""
        return bool(self._pressed)

    @property
    def contested(self) -> bool:
        """Whether more nodes command than one, which was not allowed."""
        return self.commanders > 1 and not self._many

    @property
    def bars(self) -> str:
        """Why no command at all may be followed, as a reason of refusal; empty where one may."""
        return "fault" if self.state is RobotState.FAULT else "contested" if self.contested else ""

    def heard(self, monotonic_ns: int) -> None:
        """A command came, valid or not."""
        self._heard_ns = monotonic_ns

    def count(self, commanders: int) -> None:
        """So many nodes could command now. A second one beside one that is followed: FAULT."""
        self.commanders = commanders
        if self.contested and self.state is RobotState.ACTIVE:
            self._go(RobotState.FAULT, f"second commander: {commanders} publishers of {topics.JOINT_TRAJECTORY}")

    def follow(self) -> None:
        """A command is followed in this tick."""
        if self.state is RobotState.HOLD:
            self._go(RobotState.ACTIVE, "following commands")

    def hold(self, reason: str) -> None:
        """No command is followed any more."""
        if self.state is RobotState.ACTIVE:
            self._go(RobotState.HOLD, reason)

    def fault(self, reason: str) -> None:
        """What the robot did must not go on. An earlier fault keeps its reason."""
        if self.state is not RobotState.FAULT:
            self._go(RobotState.FAULT, reason)

    def e_stop(self, pressed: bool, source: str) -> None:
        """`source` says that its emergency stop is pressed, or released; it may say so again and again."""
        if pressed == (source in self._pressed):
            return
        if pressed:
            self._pressed.add(source)
            reason = f"emergency stop pressed ({source})"
            if self.state is not RobotState.FAULT:
                self._go(RobotState.FAULT, reason)
            else:
                self._tell(self.state, f"{self._cause}; {reason}")
        else:
            self._pressed.discard(source)
            left = f", still pressed ({', '.join(sorted(self._pressed))})" if self._pressed else ""
            self._tell(self.state, f"{self._cause}; emergency stop released ({source}){left}")

    def reset_fault(self, monotonic_ns: int) -> None:
        """FAULT -> HOLD; raises ControllerError while what led to it may still be there."""
        if self.state is not RobotState.FAULT:
            raise ControllerError(f"cannot reset the fault: the robot node is in {self.state} ({self.reason})")
        since_ns = self._quiet_ns if self._heard_ns is None else monotonic_ns - self._heard_ns
        if self._pressed:
            by = ", ".join(sorted(self._pressed))
            problem = f"the emergency stop is still pressed ({by}); release it first"
        elif self.contested:
            problem = f"{topics.JOINT_TRAJECTORY} has {self.commanders} publishers; end all but one first"
        elif since_ns < self._quiet_ns:
            problem = f"a command came {since_ns / 1e6:.0f} ms ago; disarm whoever sends them first"
        else:
            self._go(RobotState.HOLD, "fault reset by the operator")
            return
        raise ControllerError(f"cannot reset the fault: {problem}")

    def status(self) -> dict[str, object]:
        """State, why, and whether the emergency stop is pressed; plain data."""
        return {"state": str(self.state), "reason": self.reason, "emergency_stop": self.emergency_stop}

    def _go(self, after: RobotState, reason: str) -> None:
        self._cause = reason
        self._tell(after, reason)

    def _tell(self, after: RobotState, reason: str) -> None:
        self.changes.append(f"{self.state} -> {after}: {reason}")
        self.state, self.reason = after, reason
