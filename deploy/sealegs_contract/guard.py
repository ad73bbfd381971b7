"""The last check on every command: finite, then position, velocity and acceleration limits, along the command history.

The robot node and the simulated envs use the same functions, so a policy trains under the limits that it will meet.
A command sequence that is legal and can stop in time passes unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import SpecError
from sealegs_contract.robot import RobotProfile

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

SAME_RAD = 1e-9  # a command this close to its target counts as unchanged


@dataclass(frozen=True, slots=True)
class JointLimits:
    """Limits as arrays (J,): rad, rad/s, rad/s^2."""

    position_min: FloatArray
    position_max: FloatArray
    velocity_max: FloatArray
    acceleration_max: FloatArray

    @classmethod
    def from_profile(cls, robot: RobotProfile) -> JointLimits:
        """The limits of `robot`, in its order of joints."""
        return cls(
            np.array([j.position_min_rad for j in robot.joints]),
            np.array([j.position_max_rad for j in robot.joints]),
            np.array([j.velocity_max_rad_s for j in robot.joints]),
            np.array([j.acceleration_max_rad_s2 for j in robot.joints]),
        )


@dataclass(frozen=True, slots=True)
class StepLimits:
    """JointLimits for one control period, in rad per period: computed once, because the guard runs in every period.

    `lower`, `upper`, `change` = a_max dt^2 and `fastest` = v_max dt are (J,). `bounds` (2, ..., J) stacks lower and
    upper, with an axis for each leading axis of the commands, and `changes` has that shape: numpy is twice as fast
    where it need not broadcast.
    """

    lower: FloatArray
    upper: FloatArray
    change: FloatArray
    fastest: FloatArray
    bounds: FloatArray
    changes: FloatArray
    period_s: float

    @classmethod
    def of(cls, limits: JointLimits, period_s: float, leading_axes: int = 0) -> StepLimits:
        """The limits of commands (..., J) with that many leading axes, given every `period_s`."""
        lower, upper, change = limits.position_min, limits.position_max, limits.acceleration_max * period_s**2
        shape = (2, *(1,) * leading_axes, len(lower))
        bounds, changes = (np.stack(pair).reshape(shape) for pair in ((lower, upper), (change, change)))
        return cls(lower, upper, change, limits.velocity_max * period_s, bounds, changes, period_s)


@dataclass(frozen=True, slots=True)
class GuardStep:
    """One guarded command. Arrays are (..., J); `finite` is (...). `limited` marks joints whose target was changed."""

    position: FloatArray
    velocity: FloatArray
    limited: BoolArray
    finite: BoolArray


def braking_velocity(distance: FloatArray, acceleration_max: FloatArray, period_s: float) -> FloatArray:
    """Largest speed from which a joint, moving once more and then slowing by a*dt each period, stops within `distance`.

    With u = a dt^2 and step x = v dt, the stop covers x + (x-u) + ... + (x-nu) = (n+1) x - u n(n+1)/2, n = floor(x/u).
    Solved for x: n = floor((sqrt(1 + 8 d/u) - 1) / 2),  x = (d + u n(n+1)/2) / (n+1) = d/(n+1) + u n/2.
    A negative distance (outside the limit) gives the negative: move inward.
    """
    return _braking_step(distance, acceleration_max * period_s**2) / period_s


def _braking_step(distance: FloatArray, u: FloatArray) -> FloatArray:
    """`braking_velocity` times the period: rad per period, with u = a dt^2."""
    d = np.abs(distance)
    n = np.floor(np.sqrt(d * (2.0 / u) + 0.25) - 0.5)
    step: FloatArray = np.copysign(d / (n + 1.0) + u * (0.5 * n), distance)
    return step


def limit_command(target: FloatArray, position: FloatArray, velocity: FloatArray, limits: StepLimits) -> GuardStep:
    """The next command towards `target`, given the last command's `position` and `velocity`; all (..., J).

    A row of `target` that holds NaN or Inf is rejected whole, before any clamping: that robot decelerates to a stop.
    Otherwise  v = (clip(target) - position) / dt, limited to the speed from which it can still stop before the
    position limits, to the previous v +- a_max dt, and to +-v_max. Where these contradict each other (a start outside
    the limits or too fast), stopping in time yields to the acceleration limit, and the command never moves further out.
    """
    # np.minimum and np.maximum rather than np.clip: this runs in every control period, and clip costs four times more.
    # All speeds are steps here, rad per period.
    lower, upper, change, fastest = limits.lower, limits.upper, limits.change, limits.fastest
    finite = np.asarray(np.isfinite(target).all(axis=-1))
    all_finite = np.count_nonzero(finite) == finite.size
    if all_finite:
        wanted = np.minimum(np.maximum(target, lower), upper) - position
    else:
        safe = np.where(finite[..., None], target, position)
        wanted = np.where(finite[..., None], np.minimum(np.maximum(safe, lower), upper) - position, 0.0)
    # Signed: the furthest step towards the lower limit, and towards the upper one.
    downward, upward = _braking_step(limits.bounds - position, limits.changes)
    last = velocity * limits.period_s
    step = np.minimum(np.maximum(wanted, downward), upward)
    step = np.minimum(np.maximum(step, last - change), last + change)
    step = np.minimum(np.maximum(step, -fastest), fastest)
    # Rounding may leave a command a few ulp outside; a start outside must still be allowed to move inward.
    command = np.minimum(np.maximum(position + step, np.minimum(lower, position)), np.maximum(upper, position))
    limited = np.abs(command - target) > SAME_RAD
    if not all_finite:
        limited |= ~finite[..., None]
    return GuardStep(command, (command - position) / limits.period_s, limited, finite)


class Guard:
    """`limit_command` with its history. One per robot; `batch` > 0 keeps that many histories at once.

    Not armed until `reset` gives it a measured pose: there is no default pose to slam to.
    """

    def __init__(self, limits: JointLimits, period_s: float, batch: int = 0) -> None:
        self.limits = limits
        self.period_s = period_s
        self._steps = StepLimits.of(limits, period_s, 1 if batch else 0)
        self._shape = (batch, len(limits.position_min)) if batch else (len(limits.position_min),)
        self._position: FloatArray | None = None
        self._velocity = np.zeros(self._shape)
        self.rejected = 0
        self.limited = 0

    @property
    def position(self) -> FloatArray:
        """Last command, rad."""
        if self._position is None:
            raise SpecError("the guard has no pose yet: call reset(measured_position) first")
        return self._position

    @property
    def velocity(self) -> FloatArray:
        """Velocity of the last command, rad/s."""
        return self._velocity

    def reset(
        self, measured: FloatArray, rows: NDArray | slice | None = None, velocity: FloatArray | float = 0.0
    ) -> None:
        """Start from the measured position (J,) or (batch, J) rad, at rest. `rows` picks histories of a batch.

        `velocity` (rad/s) is for going on with a saved history.
        """
        measured = np.asarray(measured, dtype=np.float64)
        if not np.isfinite(measured).all():
            raise SpecError(f"the guard cannot start from a pose that is not finite: {measured.tolist()}")
        if rows is None:
            self._position = np.broadcast_to(measured, self._shape).copy()
            self._velocity = np.broadcast_to(np.asarray(velocity, dtype=np.float64), self._shape).copy()
            return
        position = self.position.copy()
        velocities = self._velocity.copy()
        position[rows], velocities[rows] = measured, velocity
        self._position, self._velocity = position, velocities

    def __call__(self, target: FloatArray) -> GuardStep:
        """Next command towards `target`; remembers it as history."""
        step = self._advance(target)
        rejected = step.finite.size - int(np.count_nonzero(step.finite))
        self.rejected += rejected
        self.limited += int(np.count_nonzero(step.limited.any(axis=-1))) - rejected
        return step

    def stop(self) -> GuardStep:
        """Decelerate towards rest within the limits. Counts neither as rejected nor as limited."""
        return self._advance(self.position)

    def _advance(self, target: FloatArray) -> GuardStep:
        target = np.asarray(target, dtype=np.float64)
        if target.shape != self._shape:
            raise SpecError(f"the guard expects targets of shape {self._shape}, got {target.shape}")
        step = limit_command(target, self.position, self._velocity, self._steps)
        self._position, self._velocity = step.position, step.velocity
        return step
