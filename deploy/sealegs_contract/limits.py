"""Whether an arm has passed its position limits: measured, not commanded. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.robot import RobotProfile

FloatArray = NDArray[np.float64]

MARGIN_SHARE = 0.05
"""Of a joint's range: how far past a limit is a fault.

A violent but legal sequence of commands swings a joint past its limit, and must not stop the robot: of 500 adversarial
runs of the simulated SO-101 (row 6 of the fault catalogue) none went past by more than 0.020 of a range, all but 2.6%
by less than 0.010. Beyond 2.5 times the most, the arm is pushed, or does not do what it is told.
"""


def excess(position: FloatArray, lowest: FloatArray, highest: FloatArray) -> FloatArray:
    """(2, J): how far each joint of `position` (J,) lies below its lowest and above its highest, rad, or 0."""
    return np.maximum([lowest - position, position - highest], 0.0)


class LimitWatch:
    """Whether a joint has gone out, past a limit, by more than the margin.

    An arm may start outside and come in: what counts, at each end of the range, is how much further out a joint is than
    the furthest in that it has been since `restart`. So one that was inside faults at limit + margin, and one that
    began beyond that faults once it has gone out by the margin more, or again.
    """

    def __init__(self, robot: RobotProfile) -> None:
        self._names = robot.joint_names
        self._lowest = np.array([joint.position_min_rad for joint in robot.joints])
        self._highest = np.array([joint.position_max_rad for joint in robot.joints])
        self._margin = MARGIN_SHARE * (self._highest - self._lowest)
        self.restart()

    def restart(self) -> None:
        """The next pose is a start: after a fault was reset, a new episode, an arming."""
        self._nearest = np.full((2, len(self._names)), np.inf)

    def check(self, measured: FloatArray) -> str:
        """What joint has passed its limit, where it is, and the limit; empty while all is well.

        `measured` is (J,) rad in the robot's order. What is not finite is for others to refuse: it changes nothing.
        """
        out = excess(measured, self._lowest, self._highest)
        self._nearest = np.fmin(self._nearest, out)
        beyond = np.nan_to_num((out - self._nearest - self._margin).max(axis=0), nan=-np.inf)
        joint = int(beyond.argmax())
        if beyond[joint] <= 0.0:
            return ""
        low, high, margin = (float(values[joint]) for values in (self._lowest, self._highest, self._margin))
        return (
            f"limit passed: {self._names[joint]} at {measured[joint]:.3f} rad, limits [{low:g}, {high:g}], "
            f"margin {margin:.3f}"
        )
