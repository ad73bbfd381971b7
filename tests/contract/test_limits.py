"""Measured joints against their limits, by hand: the shoulder's range is 2 rad, so its margin is 0.1 rad."""

from __future__ import annotations

import numpy as np
import pytest

from sealegs_contract.limits import MARGIN_SHARE, LimitWatch, excess
from sealegs_contract.robot import parse_robot

LIMITS = {"velocity_max_rad_s": 1.0, "acceleration_max_rad_s2": 10.0, "effort_max_n_m": 1.0}
ROBOT = parse_robot(
    {
        "name": "two",
        "control_rate_hz": 50.0,
        "joints": [
            {"name": "shoulder", "position_min_rad": -0.5, "position_max_rad": 1.5, **LIMITS},
            {"name": "wrist", "position_min_rad": -4.0, "position_max_rad": 4.0, **LIMITS},
        ],
    },
    "test",
)


def said(*shoulder: float) -> list[bool]:
    """Whether each of these positions of the shoulder, one after the other, is past its limit."""
    watch = LimitWatch(ROBOT)
    return [bool(watch.check(np.array([position, 0.0]))) for position in shoulder]


def test_how_far_a_joint_is_outside() -> None:
    low, high = np.array([-0.5]), np.array([1.5])
    positions = np.array([[-0.75], [-0.5], [0.0], [1.5], [1.75]])
    below, above = np.array([excess(position, low, high) for position in positions])[..., 0].T
    np.testing.assert_array_equal(below, [0.25, 0, 0, 0, 0])
    np.testing.assert_array_equal(above, [0, 0, 0, 0, 0.25])


@pytest.mark.parametrize("side", [1.5, -0.5])
def test_inside_and_within_the_margin_all_is_well(side: float) -> None:
    margin = MARGIN_SHARE * 2.0
    assert margin == pytest.approx(0.1)
    out = np.sign(side)
    assert said(0.0, side, side + 0.099 * out, 0.0, side + 0.101 * out) == [False, False, False, False, True]


def test_who_starts_outside_may_come_in_but_not_go_out_again() -> None:
    assert said(2.0, 1.9, 1.7, 1.0, 1.59, 1.61) == [False, False, False, False, False, True]
    assert said(2.0, 2.09, 2.11) == [False, False, True]
    assert said(2.0, 1.7, 1.79, 1.81) == [False, False, False, True]
    assert said(-1.0, 1.59, 1.61) == [False, False, True], "in, and out on the other side"


def test_what_is_not_finite_is_for_others_to_refuse() -> None:
    assert said(np.nan, 1.0, np.nan, 1.55, np.inf, 1.61) == [False, False, False, False, True, True]


def test_the_fault_names_the_worst_joint_and_a_restart_takes_the_pose_as_a_start() -> None:
    watch = LimitWatch(ROBOT)
    assert not watch.check(np.zeros(2))
    assert watch.check(np.array([-0.65, 4.6])) == "limit passed: wrist at 4.600 rad, limits [-4, 4], margin 0.400"
    watch.restart()
    assert not watch.check(np.array([-0.65, 4.6]))
    assert not watch.check(np.array([-0.4, 4.0]))
    assert watch.check(np.array([-0.61, 4.0])).startswith("limit passed: shoulder at -0.610 rad, limits [-0.5, 1.5]")
