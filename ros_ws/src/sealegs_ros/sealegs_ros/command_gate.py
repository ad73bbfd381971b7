"""CommandGate: which command the robot node may act on, and when it must hold. Pure; time comes in as integers."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.robot import RobotProfile
from sealegs_contract.sample import CommandSample, reorder
from sealegs_ros.robot_state import FaultLatch

FloatArray = NDArray[np.float64]
MAXIMUM_POINTS = 256
"""Of one command: five seconds at 50 Hz. More are refused before any is looked at."""
REFUSALS = ("bytes", "points", "fault", "contested", "joints", "not_finite", "older", "expired", "stale", "future")


def watchdog_ns(robot: RobotProfile, real_time_factor: float = 1.0) -> int:
    """How long commands may be silent, in host time: a simulation slower than real time sees them more rarely."""
    return round(robot.watchdog.command_timeout_ms * 1e6 * max(1.0, 1.0 / real_time_factor))


class CommandGate:
    """Keeps the newest valid command. Two clocks: the robot's (stamps, expiry) and the host's monotonic (watchdog).

    Refused, and counted by reason in `refused`: `bytes` and `points` (more than any command needs), `fault` and
    `contested` (the latch bars all commands, and the held one is dropped), `joints` (other names than the robot's, or
    one twice), `not_finite`, `older` (stamp not after the newest accepted: the stamp is the sequence number),
    `expired`, `stale` (stamped more than the watchdog's timeout ago, however long it says that it holds: a node that
    has just begun knows no newer stamp), `future` (as much ahead: it would shut out all that follow).

    `real_time_factor` is robot time per host time; neither clock is given less than the watchdog's timeout.
    """

    def __init__(self, robot: RobotProfile, real_time_factor: float = 1.0, latch: FaultLatch | None = None) -> None:
        self.joints = robot.joint_names
        self.timeout_ns = watchdog_ns(robot, real_time_factor)
        # A simulation faster than real time passes more robot time while a command is on its way.
        self.stamp_window_ns = round(robot.watchdog.command_timeout_ms * 1e6 * max(1.0, real_time_factor))
        self._latch = latch or FaultLatch()
        self.accepted = 0
        self.refused: Counter[str] = Counter()
        self._command: CommandSample | None = None
        self._newest_ns = -1
        self._arrived_ns = 0

    @property
    def newest_ns(self) -> int:
        """Commands must be stamped later than this: the newest accepted one, or the last reset."""
        return self._newest_ns

    def offer(self, command: CommandSample, now_ns: int, monotonic_ns: int) -> str | None:
        """Take a command that arrived at `now_ns` (robot) and `monotonic_ns` (host); the reason if it is refused."""
        reason = self._reason_against(command, now_ns)
        if reason is not None:
            return self.refuse(reason)
        self.accepted += 1
        self._newest_ns = command.stamp_ns
        self._arrived_ns = monotonic_ns
        position = reorder(command.names, command.position, self.joints)
        self._command = CommandSample(command.stamp_ns, self.joints, position, command.until_ns)
        return None

    def refuse(self, reason: str) -> str:
        """Count a command that is refused for `reason`, one of REFUSALS."""
        self.refused[reason] += 1
        return reason

    def target(self, now_ns: int, monotonic_ns: int) -> FloatArray | None:
        """Target (J,) rad in the robot's order; None means HOLD: no command, expired, or none within the timeout."""
        if self._latch.bars:
            self._command = None
        if self._command is None or monotonic_ns - self._arrived_ns > self.timeout_ns:
            return None
        return self._command.target_at(now_ns)

    def why_hold(self, monotonic_ns: int) -> str:
        """Why there is no target."""
        if self._command is None:
            return "no command"
        silent_ns = monotonic_ns - self._arrived_ns
        if silent_ns > self.timeout_ns:
            return f"no command for {silent_ns / 1e6:.0f} ms"
        return f"the command expired, {silent_ns / 1e6:.0f} ms after it came"

    def clear(self, now_ns: int) -> None:
        """Forget the held command, as after a reset at `now_ns`: what answers an earlier observation stays refused."""
        self._command = None
        self._newest_ns = max(self._newest_ns, now_ns - 1)

    def _reason_against(self, command: CommandSample, now_ns: int) -> str | None:
        if len(command.until_ns) > MAXIMUM_POINTS:
            return "points"
        if barred := self._latch.bars:
            return barred
        if len(command.names) != len(self.joints) or set(command.names) != set(self.joints):
            return "joints"
        if not np.isfinite(command.position).all():
            return "not_finite"
        if command.stamp_ns <= self._newest_ns:
            return "older"
        if command.expires_ns <= now_ns:
            return "expired"
        if command.stamp_ns < now_ns - self.stamp_window_ns:
            return "stale"
        if command.stamp_ns > now_ns + self.stamp_window_ns:
            return "future"
        return None
