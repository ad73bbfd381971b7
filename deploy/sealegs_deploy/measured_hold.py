"""MeasuredHold: how a hold ends up keeping the pose where the arm really is. Pure."""

from __future__ import annotations

import numpy as np

from sealegs_contract.guard import Guard, GuardStep
from sealegs_contract.sample import FloatArray

STILL_RAD = 0.003  # two counts of a servo with 4,096 a turn: what flickers in a reading at rest
STILL_S = 0.2


class MeasuredHold:
    """Decelerates; once command and arm stand still, keeps the measured pose, approached within the limits.

    So an arm that was blocked, or commanded to where it could not get, does not push on. The pose is taken once, in a
    hold that follows motion: a servo rests a little below its command, and taking that again and again would let the
    arm creep down.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._ticks = round(STILL_S / guard.period_s)
        self.restart(moved=False)

    @property
    def pose(self) -> FloatArray | None:
        """The measured pose that is kept, (J,) rad; None where none was taken."""
        return self._pose

    def restart(self, moved: bool) -> None:
        """A hold that begins now follows motion, or keeps what the guard was reset to."""
        self._moved = moved
        self._pose: FloatArray | None = None
        self._near: FloatArray | None = None
        self._still = 0

    def step(self, measured: FloatArray | None) -> GuardStep:
        """The next command, from the newest measured position (J,) rad; None where it is not known now."""
        if self._pose is not None:
            return self._guard(self._pose)
        step = self._guard.stop()
        if measured is None:
            self._near = None
            return step
        # Also false where a value is not finite.
        stays = self._near is not None and bool((np.abs(measured - self._near) <= STILL_RAD).all())
        if self._guard.velocity.any() or not stays:
            self._near, self._still = measured.copy(), 0
        self._still += 1
        if self._moved and self._still > self._ticks:
            self._pose = measured.copy()
        return step
