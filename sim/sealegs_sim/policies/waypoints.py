"""Where the gripper's tip should go next, for each task: pure functions of the observation's fields.

Without memory, so that the demonstrated behaviour is a function of the observation and can be learned from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sealegs_sim.policies.kinematics import from_polar, to_polar
from sealegs_sim.tasks import push_contact_point

FloatArray = NDArray[np.float64]
Fields = Mapping[str, FloatArray]


CLOSED_RAD = -0.08  # the jaws meet at 0; a little beyond keeps them pressed together


@dataclass(frozen=True)
class Waypoint:
    """A tip position (3,) m, the hand's pitch there (rad, downwards), and how far the gripper is open (rad)."""

    tip: FloatArray
    pitch_rad: float
    gripper_rad: float = CLOSED_RAD


def reach_waypoint(fields: Fields) -> Waypoint:
    """The target itself."""
    return Waypoint(fields["target.object_position"], 1.0)


HOOK_DEPTH_M = 0.034  # from the handle's bar to the middle of the gap behind it
HOOK_BELOW_M = 0.026  # how far the tip reaches below the bar
HOVER_M = 0.028
PULL_TO_M = 0.105


def drawer_waypoint(fields: Fields) -> Waypoint:
    """Over the gap behind the handle's bar, down into it, then back towards the shoulder."""
    tip, handle = fields["gripper.object_position"], fields["handle.object_position"]
    closed = fields["drawer.object_position"]
    r_handle, azimuth, z_handle = to_polar(handle)
    r_tip, a_tip, z_tip = to_polar(tip)
    aside = r_tip * np.sin(a_tip - azimuth)
    ahead = r_tip - r_handle
    pitch = 1.5
    if 0.004 < ahead < 0.066 and abs(aside) < 0.03 and z_tip < z_handle - 0.004:
        r_open = to_polar(closed)[0] - PULL_TO_M
        return Waypoint(from_polar(min(r_tip, r_open + 0.010), azimuth, z_handle - HOOK_BELOW_M), pitch)
    if abs(ahead - HOOK_DEPTH_M) < 0.018 and abs(aside) < 0.02:
        return Waypoint(from_polar(r_handle + HOOK_DEPTH_M, azimuth, z_handle - HOOK_BELOW_M), pitch)
    # Rise before crossing the bar or the front.
    near = -0.03 < ahead < 0.09 and abs(aside) < 0.06
    if near and z_tip < z_handle + 0.5 * HOVER_M:
        return Waypoint(from_polar(r_tip, a_tip, z_handle + 1.5 * HOVER_M), pitch)
    return Waypoint(from_polar(r_handle + HOOK_DEPTH_M, azimuth, z_handle + HOVER_M), pitch)


PUSH_HEIGHT_M = 0.014
PUSH_HOVER_M = 0.065
PUSH_BEHIND_M = 0.046


def push_waypoint(fields: Fields) -> Waypoint:
    """Over the point behind the cube, down, then through the cube's centre towards the zone."""
    tip, cube = fields["gripper.object_position"], fields["cube.object_position"]
    target = fields["target.object_position"]
    way = target[:2] - cube[:2]
    remaining = float(np.linalg.norm(way))
    direction = way / max(remaining, 1e-6)
    offset = tip[:2] - cube[:2]
    along = float(offset @ direction)
    aside = float(direction[0] * offset[1] - direction[1] * offset[0])
    behind = push_contact_point(cube, target, PUSH_BEHIND_M)
    pitch = 1.45
    if remaining < 0.006:
        return Waypoint(tip, pitch)
    low = tip[2] < 0.032
    if low and -0.075 < along < -0.012 and abs(aside) < 0.014:
        # Steer the pushing point to the side that the cube drifts to, so that it comes back onto the line.
        goal = cube[:2] + (min(remaining, 0.05) - 0.026) * direction
        lateral = np.array([-direction[1], direction[0]])
        goal = goal - 1.0 * aside * lateral
        return Waypoint(np.array([*goal, PUSH_HEIGHT_M]), pitch)
    miss = float(np.linalg.norm(tip[:2] - behind[:2]))
    if miss < 0.012:
        return Waypoint(np.array([*behind[:2], PUSH_HEIGHT_M]), pitch)
    if low or (tip[2] < PUSH_HOVER_M - 0.02 and miss > 0.02):
        return Waypoint(np.array([tip[0], tip[1], PUSH_HOVER_M + 0.01]), pitch)
    return Waypoint(np.array([*behind[:2], PUSH_HOVER_M]), pitch)


WAYPOINTS: dict[str, Callable[[Fields], Waypoint]] = {
    "reach": reach_waypoint,
    "push": push_waypoint,
    "drawer": drawer_waypoint,
}
