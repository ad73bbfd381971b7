"""Commander: one history of guarded commands, at most one a period, with stamps that only grow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.guard import Guard, JointLimits
from sealegs_contract.robot import RobotProfile
from sealegs_contract.sample import CommandSample
from sealegs_deploy.measured_hold import MeasuredHold

FloatArray = NDArray[np.float64]


class Commander:
    """Limits are of the LOCAL profile `robot`. Times are robot time in ns; `horizon_ns`: how long a command holds."""

    def __init__(self, robot: RobotProfile) -> None:
        self._robot = robot
        self._period_ns = robot.control_period_ns
        limits = JointLimits.from_profile(robot)
        self._guards = {r: Guard(limits, robot.control_period_ns / 1e9, relative=r) for r in (False, True)}
        self._guard = self._guards[False]
        self._hold = MeasuredHold(self._guards[False])
        self._relative = False
        self._begun = False
        self._stamp_ns = -1
        self._acted_on_ns: int | None = None

    @property
    def position(self) -> FloatArray:
        """The last command (J,) rad."""
        return self._guard.position

    @property
    def history(self) -> FloatArray:
        """What the next command goes on from; see Guard.save."""
        return self._guard.save()

    def forget(self) -> None:
        """No command was given yet."""
        self._stamp_ns, self._acted_on_ns = -1, None

    def forget_observation(self) -> None:
        """The next observation may be any: what came before a HOLD is no measure for it."""
        self._acted_on_ns = None

    def begin(self, measured: FloatArray, stamp_ns: int) -> None:
        """Commands go on from the measured pose (J,) rad, with the observation after that of `stamp_ns`.

        A command for this one could miss its tick.
        """
        self.forget()
        self._guard.reset(measured)
        self._begun = True
        self._acted_on_ns = stamp_ns

    def take_actions(self, relative: bool) -> None:
        """From here on targets are `relative` to the last command, or places; the history stays."""
        self._relative = relative

    def gap_ns(self, stamp_ns: int) -> int:
        """Robot time from the observation that was acted on last to that of `stamp_ns`; 0 where there was none."""
        return 0 if self._acted_on_ns is None else stamp_ns - self._acted_on_ns

    def due(self, stamp_ns: int, now_ns: int) -> bool:
        """Whether the observation of `stamp_ns` is a period newer than the last, and a command for it may be stamped.

        A guard step is a whole period: a stream at twice the rate must not move the robot twice as fast.
        """
        recent = self._acted_on_ns is not None and 4 * (stamp_ns - self._acted_on_ns) < 3 * self._period_ns
        return not recent and max(now_ns, stamp_ns) > self._stamp_ns

    def follow(self, target: FloatArray, stamp_ns: int, now_ns: int, horizon_ns: int) -> CommandSample:
        """Towards `target` (J,) rad, for the observation of `stamp_ns`, which was `due`."""
        self._acted_on_ns = stamp_ns
        self._go_on_as(self._relative)
        self._hold.restart(moved=True)
        return self._command(self._guard(target).position, max(now_ns, stamp_ns), horizon_ns)

    def hold(self, measured: FloatArray | None, now_ns: int, horizon_ns: int) -> CommandSample | None:
        """Decelerate, then keep the measured pose (J,) rad, None where it is not known now; see MeasuredHold.

        None within the period of the last command.
        """
        if 4 * (now_ns - self._stamp_ns) < 3 * self._period_ns:
            return None
        self._go_on_as(relative=False)
        return self._command(self._hold.step(measured).position, now_ns, horizon_ns)

    def _command(self, position: FloatArray, stamp_ns: int, horizon_ns: int) -> CommandSample:
        """`stamp_ns` is a sequence number too: the callers see to it that it grows."""
        self._stamp_ns = stamp_ns
        return CommandSample(stamp_ns, self._robot.joint_names, position[None].copy(), (horizon_ns,))

    def _go_on_as(self, relative: bool) -> None:
        """The guard for such targets, with the history of commands."""
        before, self._guard = self._guard, self._guards[relative]
        if before is not self._guard and self._begun:
            self._guard.restore(before.save())
