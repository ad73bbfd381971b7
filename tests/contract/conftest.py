"""Small things to test the contract with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sealegs_contract.guard import JointLimits
from sealegs_contract.robot import RobotProfile, parse_robot


@pytest.fixture
def profile_content() -> dict[str, Any]:
    """A two-joint robot as decoded YAML; tests change one thing in it."""
    joint = {
        "position_min_rad": -1.0,
        "position_max_rad": 2.0,
        "velocity_max_rad_s": 3.0,
        "acceleration_max_rad_s2": 30.0,
        "effort_max_n_m": 2.5,
    }
    return {
        "name": "pair",
        "joints": [{"name": "left", **joint}, {"name": "right", **joint, "home_rad": 0.5}],
        "control_rate_hz": 50.0,
        "cameras": [
            {"name": "top", "width": 64, "height": 48, "rate_hz": 10.0, "fx": 50.0, "fy": 50.0, "cx": 32.0, "cy": 24.0}
        ],
        "objects": ["cube"],
    }


@pytest.fixture
def robot(profile_content: dict[str, Any]) -> RobotProfile:
    return parse_robot(profile_content, "test")


@pytest.fixture
def limits() -> JointLimits:
    """Three unequal joints: the last is slow to brake (about 90 periods of 20 ms from full speed)."""
    position_max, velocity_max = np.array([2.0, 0.3, 2.0]), np.array([3.0, 1.0, 1.25])
    acceleration_max, free = np.array([30.0, 5.0, 0.7]), np.full(3, np.inf)
    return JointLimits(np.array([-1.0, -0.2, -2.0]), position_max, velocity_max, acceleration_max, free)


@pytest.fixture
def jerk_limits(limits: JointLimits) -> JointLimits:
    """The same joints, with 2.5, 1 and 10 periods of 20 ms from rest to full acceleration."""
    return replace(limits, jerk_max=limits.acceleration_max / (0.02 * np.array([2.5, 1.0, 10.0])))
