"""When a hold takes the measured pose, by arms made of a formula."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sealegs_contract.guard import Guard, JointLimits
from sealegs_contract.robot import load_robot
from sealegs_deploy.measured_hold import STILL_RAD, STILL_S, MeasuredHold

ROBOT = load_robot("so101")
PERIOD_S = ROBOT.control_period_ns / 1e9
SAG_RAD = 0.05


def sagging(command: np.ndarray, _: int) -> np.ndarray:
    return command - SAG_RAD


def shaking(command: np.ndarray, tick: int) -> np.ndarray:
    return command + 4 * STILL_RAD * np.sin(tick)


def unreadable(command: np.ndarray, tick: int) -> np.ndarray:
    return np.where(np.arange(len(command)) == tick % 7, np.nan, command)


def held(arm: Callable[[np.ndarray, int], np.ndarray], moved: bool = True, ticks: int = 3000) -> np.ndarray:
    """Commands (ticks + 1, J) of a hold that begins in motion."""
    guard = Guard(JointLimits.from_profile(ROBOT), PERIOD_S)
    guard.reset(ROBOT.home_rad)
    for _ in range(10):
        guard(ROBOT.home_rad + 0.5)
    hold = MeasuredHold(guard)
    hold.restart(moved)
    commands = [guard.position]
    for tick in range(ticks):
        commands.append(hold.step(arm(commands[-1], tick)).position)
    return np.array(commands)


def test_a_sagging_arm_is_followed_down_once_and_never_again() -> None:
    commands = held(sagging)
    resting = held(sagging, moved=False)[-1]
    np.testing.assert_allclose(commands[-1], resting - SAG_RAD, atol=STILL_RAD)
    left = np.flatnonzero((np.abs(commands - resting) < 1e-12).all(axis=1))[-1] * PERIOD_S
    assert STILL_S <= left <= STILL_S + 0.2  # to brake from 3 rad/s at 30 rad/s^2 takes 0.1 s
    settled = commands[round(1.0 / PERIOD_S) :]
    assert (settled == settled[0]).all()


@pytest.mark.parametrize("arm", [shaking, unreadable])
def test_an_arm_that_does_not_stand_still_is_held_where_the_command_came_to_rest(
    arm: Callable[..., np.ndarray],
) -> None:
    np.testing.assert_array_equal(held(arm)[-1], held(arm, moved=False)[-1])


def test_a_pose_outside_the_limits_is_held_at_the_limit() -> None:
    outside = np.array([joint.position_max_rad + 0.3 for joint in ROBOT.joints])
    np.testing.assert_allclose(held(lambda *_: outside)[-1], outside - 0.3, atol=1e-6)
