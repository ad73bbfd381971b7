"""Closed-form kinematics of the SO-101's arm: a pan joint, then three pitch joints in the arm's vertical plane.

In that plane, (r, z) from the pan axis and the table, pitch angles counted downwards from the profile's zero pose:
    elbow = shoulder + R(t1) L1,   wrist = elbow + R(t1 + t2) L2,   tip = wrist + R(t1 + t2 + t3) L3
with R(t) (r, z) = (r cos t + z sin t, -r sin t + z cos t). The lengths are those of assets/so101.xml (a test compares).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

PAN_AXIS_X_M = 0.0388
SHOULDER = np.array([0.0304, 0.0624 + 0.0542])
L1 = np.array([0.028, 0.11257])
L2 = np.array([0.1349, 0.0052])
L3 = np.array([0.0611 + 0.0981, -0.0079])
PITCH_CANDIDATES = np.linspace(0.0, 2.2, 111)


def rotate_down(vector: FloatArray, angle: FloatArray | float) -> FloatArray:
    """R(angle) vector, for vectors (..., 2) and angles (...)."""
    c, s = np.cos(angle), np.sin(angle)
    r, z = vector[..., 0], vector[..., 1]
    return np.stack([r * c + z * s, -r * s + z * c], axis=-1)


def to_polar(point: FloatArray) -> tuple[float, float, float]:
    """(radius from the pan axis, azimuth, height) of a point (3,) in base_link."""
    x, y = float(point[0]) - PAN_AXIS_X_M, float(point[1])
    return float(np.hypot(x, y)), float(np.arctan2(y, x)), float(point[2])


def from_polar(radius_m: float, azimuth_rad: float, height_m: float) -> FloatArray:
    """Inverse of `to_polar`."""
    return np.array([PAN_AXIS_X_M + radius_m * np.cos(azimuth_rad), radius_m * np.sin(azimuth_rad), height_m])


def forward(joints: FloatArray) -> FloatArray:
    """Gripper tip (3,) m for (pan, lift, elbow, wrist_flex) rad with the wrist unrolled."""
    t1, t2, t3 = joints[1], joints[1] + joints[2], joints[1] + joints[2] + joints[3]
    plane = SHOULDER + rotate_down(L1, t1) + rotate_down(L2, t2) + rotate_down(L3, t3)
    return from_polar(plane[0], -joints[0], plane[1])  # the pan joint turns clockwise seen from above


def inverse(tip: FloatArray, pitch_rad: float, low: FloatArray, high: FloatArray) -> FloatArray | None:
    """(pan, lift, elbow, wrist_flex) that bring the tip to a point (3,) with the hand's pitch nearest to `pitch_rad`.

    Elbow up. None where no pitch in [0, 2.2] rad reaches it inside the limits `low`, `high` (>= 4,).
    """
    radius, azimuth, height = to_polar(tip)
    wrist = np.array([radius, height]) - rotate_down(L3, PITCH_CANDIDATES) - SHOULDER
    reach = np.linalg.norm(wrist, axis=-1)
    a, b = float(np.linalg.norm(L1)), float(np.linalg.norm(L2))
    # Law of cosines: the angle at the shoulder between L1 and the line to the wrist, and the direction of L2.
    cos_shoulder = (a**2 + reach**2 - b**2) / (2.0 * a * np.maximum(reach, 1e-9))
    possible = np.abs(cos_shoulder) <= 1.0
    elevation = np.arctan2(wrist[:, 1], wrist[:, 0]) + np.arccos(np.clip(cos_shoulder, -1.0, 1.0))
    elbow = a * np.stack([np.cos(elevation), np.sin(elevation)], axis=-1)
    link = wrist - elbow
    t1 = np.arctan2(L1[1], L1[0]) - elevation
    t2 = np.arctan2(L2[1], L2[0]) - np.arctan2(link[:, 1], link[:, 0])
    joints = np.stack([np.full_like(t1, -azimuth), t1, t2 - t1, PITCH_CANDIDATES - t2], axis=-1)
    possible &= ((joints >= low[:4]) & (joints <= high[:4])).all(axis=-1)
    if not possible.any():
        return None
    cost = np.where(possible, np.abs(PITCH_CANDIDATES - pitch_rad), np.inf)
    return np.asarray(joints[int(np.argmin(cost))])
