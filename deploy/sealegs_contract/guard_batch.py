"""The law of `guard_joint` for many robots at once, with equal results, bit for bit.

Most joints of a batch are far from their limits: for these the law is short, and numpy computes it. The few others are
left to `guard_joint`, one by one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.braking import SLACK, Joint
from sealegs_contract.guard_joint import TRACK, next_step, stop_step

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class BatchLaw:
    """For `batch` robots with these joints. Arrays have the shape of the commands: numpy need not broadcast."""

    def __init__(self, joints: list[Joint], batch: int, relative: bool) -> None:
        self._joints, self._relative = joints, relative

        def array(values: list[float]) -> FloatArray:
            return np.tile(values, (batch, 1))

        self._lower, self._upper = array([j.lower for j in joints]), array([j.upper for j in joints])
        self._unit, self._change = array([j.unit for j in joints]), array([j.change for j in joints])
        self._lowest = -self._change
        self._steady = array([j.fastest - j.plateau for j in joints]) / SLACK
        far = [max(j.rest, j.rise) * j.unit for j in joints]
        self._low_far, self._high_far = self._lower + array(far) * SLACK, self._upper - array(far) * SLACK
        self._slope = array([max(j.rest_slope, j.rise_slope) * j.unit for j in joints]) * SLACK
        self._free = all(j.change <= 0.5 for j in joints)  # the jerk limit never binds: c' in [-q, q]

    def advance(self, history: FloatArray, targets: FloatArray, moves: BoolArray) -> FloatArray:
        """The next history (4, batch, J): x, step, change, last target. Rows that do not move go to rest."""
        x = history[0]
        stops = not moves.all()
        if stops:
            targets = np.where(moves[:, None], targets, x)
        following = np.empty(history.shape)  # C order: `reshape` below must not copy
        wanted = np.minimum(np.maximum(targets, self._lower), self._upper)
        following[3] = wanted
        easy = self._easy(history, following)
        if stops:
            easy &= moves[:, None]
        hard = np.flatnonzero(~easy)
        if len(hard):
            numbers = hard.tolist()
            given = history.reshape(4, -1)[:, hard].tolist()
            following.reshape(4, -1)[1:3, hard] = self._hard(numbers, moves, given, wanted.ravel()[hard].tolist())
        np.add(x, following[1], out=following[0])
        if stops:
            following[3] = np.where(moves[:, None], wanted, following[0])
        return following

    def _easy(self, history: FloatArray, following: FloatArray) -> BoolArray:
        """`guard_joint.next_step` to the target in `following`, where no limit of position or speed can bind.

        Writes steps and changes there; the result says where they hold.
        """
        x, step, change, before = history
        unit, q, target = self._unit, self._change, following[3]
        s, e = step / unit, target - x
        distance = e / unit
        direct = distance - s
        low, high, c = self._lowest, q, direct
        if not self._free:
            last = change / unit
            low, high = np.maximum(last - 1.0, low), np.minimum(last + 1.0, high)
            if self._relative:  # with a free jerk, `toward` only changes what is clipped to +-q anyway
                size = np.abs(direct)
                follows = (size <= 1.0) | ((np.abs((x - before) / unit) <= TRACK) & (size <= q))
                c = np.where(follows, direct, toward(direct))
        c = np.minimum(np.maximum(c, low), high)
        reach = self._slope * (s + c)
        easy: BoolArray = (np.abs(s) <= self._steady) & (x + np.maximum(reach, 0.0) <= self._high_far)
        easy &= x + np.minimum(reach, 0.0) >= self._low_far
        if not self._relative:
            off, after = np.abs((x - before) / unit), (target - before) / unit - distance
            stays = (np.abs(after) <= np.minimum(q, 1.0)) & (np.abs(after - direct) <= 1.0)
            easy &= (low - TRACK <= direct) & (direct <= high + TRACK) & ((off <= TRACK) | stays)
        np.multiply(c, unit, out=following[2])
        np.add(step, following[2], out=following[1])
        np.copyto(following[1], e, where=c == direct)
        return easy

    def _hard(
        self, numbers: list[int], moves: BoolArray, history: list[list[float]], targets: list[float]
    ) -> tuple[list[float], list[float]]:
        """Steps and changes by `guard_joint`, of the joints with these numbers among all of the batch."""
        steps, changes = [], []
        for number, x, step, change, before, target in zip(numbers, *history, targets, strict=True):
            row, column = divmod(number, len(self._joints))
            joint = self._joints[column]
            if moves[row]:
                s, c = next_step(x, step, change, target, before, joint, self._relative)
            else:
                s, c = stop_step(x, step, change, joint)
            steps.append(s)
            changes.append(c)
        return steps, changes


def toward(speed: FloatArray) -> FloatArray:
    """See `braking.toward`."""
    distance = np.abs(speed)
    n = np.floor(np.sqrt(2.0 * distance + 0.25) - 0.5)
    return np.copysign(distance / (n + 1.0) + 0.5 * n, speed)
