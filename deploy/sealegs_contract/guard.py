"""The last check on every command: finite, then position, velocity, acceleration and jerk limits, along its history.

The robot node and the simulated envs use the same law, so a policy trains under the limits that it will meet.
A command sequence that is legal and can stop in time passes unchanged. `guard_joint` has the law, `braking` the math.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.braking import Joint, Values, joint_of
from sealegs_contract.errors import SpecError
from sealegs_contract.guard_batch import BatchLaw
from sealegs_contract.guard_joint import next_step, stop_step
from sealegs_contract.robot import RobotProfile

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

UNARMED = "the guard has no pose yet: call reset(measured_position) first"
FINITE, NOT_FINITE = np.broadcast_to(True, ()), np.broadcast_to(False, ())  # read-only: every step shares them
SAME_RAD = 1e-9  # a command this close to its target counts as unchanged


@dataclass(frozen=True, slots=True)
class JointLimits:
    """Limits as arrays (J,): rad, rad/s, rad/s^2, rad/s^3. An infinite jerk limit never binds."""

    position_min: FloatArray
    position_max: FloatArray
    velocity_max: FloatArray
    acceleration_max: FloatArray
    jerk_max: FloatArray

    @classmethod
    def from_profile(cls, robot: RobotProfile) -> JointLimits:
        """The limits of `robot`, in its order of joints."""
        return cls(
            np.array([j.position_min_rad for j in robot.joints]),
            np.array([j.position_max_rad for j in robot.joints]),
            np.array([j.velocity_max_rad_s for j in robot.joints]),
            np.array([j.acceleration_max_rad_s2 for j in robot.joints]),
            np.array([j.jerk_max_rad_s3 or np.inf for j in robot.joints]),
        )

    def joints(self, period_s: float) -> list[Joint]:
        """The limits of each joint for one control period: computed once, because the guard runs in every period."""
        columns = (self.position_min, self.position_max, self.velocity_max, self.acceleration_max, self.jerk_max)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [joint_of(lower, upper, v, a, j, period_s) for lower, upper, v, a, j in rows]


class GuardStep(NamedTuple):
    """One guarded command. Arrays are (..., J); `finite` is (...). `limited` marks joints whose target was changed."""

    position: FloatArray
    limited: BoolArray
    finite: BoolArray


class Guard:
    """The law with its history. One per robot; `batch` > 0 keeps that many histories at once, with equal results.

    `relative`: targets are given relative to the last command (`joint_delta`), so that each asks for a speed; otherwise
    they are places to arrive at. Limits hold either way.

    Not armed until `reset` gives it a measured pose: there is no default pose to slam to.
    """

    def __init__(self, limits: JointLimits, period_s: float, batch: int = 0, relative: bool = False) -> None:
        self.limits, self.period_s, self.relative = limits, period_s, relative
        joints = limits.joints(period_s)
        self._joints = [joint[:] for joint in joints]
        self._batch = batch
        self._shape = (batch, len(joints)) if batch else (len(joints),)
        self._law = BatchLaw(joints, batch, relative)
        # As `save` gives it: plain floats for one robot, an array for a batch.
        self._rows: list[list[float]] = []
        self._kept: list[float | None] = []  # see `advance`
        self._history: FloatArray | None = None
        self.rejected = 0
        self.limited = 0

    @property
    def position(self) -> FloatArray:
        """Last command, rad."""
        position: FloatArray = self.save()[0]
        return position

    @property
    def velocity(self) -> FloatArray:
        """Velocity of the last command, rad/s."""
        velocity: FloatArray = self.save()[1] / self.period_s
        return velocity

    def reset(self, measured: FloatArray, rows: NDArray | slice | None = None) -> None:
        """Start from the measured position (J,) or (batch, J) rad, at rest. `rows` picks histories of a batch."""
        measured = np.asarray(measured, dtype=np.float64)
        if not np.isfinite(measured).all():
            raise SpecError(f"the guard cannot start from a pose that is not finite: {measured.tolist()}")
        history = np.zeros((4, *self._shape)) if rows is None else self.save()
        picked = slice(None) if rows is None else rows
        history[0][picked] = measured
        history[1:3, picked] = 0.0
        history[3][picked] = np.clip(measured, self.limits.position_min, self.limits.position_max)
        self.restore(history)

    def save(self) -> FloatArray:
        """The history (4, ..., J): position (rad), velocity and acceleration in rad per period, last target (rad)."""
        if self._history is not None:
            return self._history.copy()
        if not self._rows:
            raise SpecError(UNARMED)
        return np.array(self._rows)

    def restore(self, history: FloatArray) -> None:
        """Go on exactly as the guard that was saved."""
        if np.shape(history) != (4, *self._shape):
            raise SpecError(f"the guard expects a history of shape {(4, *self._shape)}, got {np.shape(history)}")
        if self._batch:
            self._history = np.array(history, dtype=np.float64, order="C")
        else:
            self._rows = np.asarray(history, dtype=np.float64).tolist()
            self._kept = [None] * len(self._joints)

    def __call__(self, target: FloatArray) -> GuardStep:
        """Next command towards `target`; remembers it as history.

        A row of `target` that holds NaN or Inf is rejected whole, before any clamping: that robot decelerates to rest.
        """
        target = np.asarray(target, dtype=np.float64)
        if target.shape != self._shape:
            raise SpecError(f"the guard expects targets of shape {self._shape}, got {target.shape}")
        if self._batch:
            step = self._many(target, np.asarray(np.isfinite(target).all(axis=-1)))
            rejected = self._batch - int(np.count_nonzero(step.finite))
            self.rejected += rejected
            self.limited += int(np.count_nonzero(step.limited.any(axis=-1))) - rejected
            return step
        targets = target.tolist()
        if not self._rows:
            raise SpecError(UNARMED)
        if not isfinite(sum(targets)) and not all(map(isfinite, targets)):  # a finite sum has no NaN or Inf in it
            self.rejected += 1
            return self._to_rest(finite=False)
        limited = advance(self._joints, self._rows, self._kept, targets, self.relative)
        self.limited += True in limited
        return self._step(limited, finite=True)

    def stop(self) -> GuardStep:
        """Decelerate to rest within the limits. Counts neither as rejected nor as limited."""
        if not self._batch:
            return self._to_rest(finite=True)
        step = self._many(np.zeros(self._shape), np.zeros(self._batch, dtype=bool))
        return step._replace(finite=~step.finite)

    def _to_rest(self, finite: bool) -> GuardStep:
        if not self._rows:
            raise SpecError(UNARMED)
        advance_to_rest(self._joints, self._rows)
        self._kept = [None] * len(self._joints)
        return self._step([True] * len(self._joints), finite)

    def _step(self, limited: list[bool], finite: bool) -> GuardStep:
        return GuardStep(np.array(self._rows[0]), np.array(limited, dtype=bool), FINITE if finite else NOT_FINITE)

    def _many(self, target: FloatArray, moves: BoolArray) -> GuardStep:
        if self._history is None:
            raise SpecError(UNARMED)
        self._history = self._law.advance(self._history, target, moves)
        position = self._history[0].copy()
        limited = ~(np.abs(position - target) <= SAME_RAD)
        if not moves.all():
            limited |= ~moves[:, None]
        return GuardStep(position, limited, moves)


def advance(
    joints: list[Values], rows: list[list[float]], kept: list[float | None], targets: list[float], relative: bool
) -> list[bool]:
    """The next command of one robot, written over its history `rows`; which joints do not get their target.

    `kept` (J,): the target for which a joint stayed where it is, and its history as it was. It does so again for the
    same target: the law need not be asked, which is a function of history and target alone.
    """
    x, step, change, before = rows
    limited = []
    most, least = SAME_RAD, -SAME_RAD
    for i, (joint, p, was, had, last, target) in enumerate(zip(joints, *rows, targets, strict=True)):
        lower, upper = joint[0], joint[1]
        wanted = lower if target < lower else upper if target > upper else target
        if kept[i] == wanted == last:
            missed = p - target
        else:
            step[i], change[i] = s, c = next_step(p, was, had, wanted, last, joint, relative)
            x[i] = reached = p + s
            before[i], missed = wanted, reached - target
            kept[i] = wanted if reached == p and wanted == last and s == was and c == had else None
        limited.append(missed > most or missed < least)
    return limited


def advance_to_rest(joints: list[Values], rows: list[list[float]]) -> None:
    """`advance` the quickest way to rest."""
    x, step, change, before = rows
    for i, joint in enumerate(joints):
        step[i], change[i] = stop_step(x[i], step[i], change[i], joint)
        x[i] += step[i]
        before[i] = x[i]
