"""Near: whether the arm stands where the training data of a policy were. Asked before it is armed. Pure.

near  <=>  mean_j - r_j <= q_j <= mean_j + r_j for every joint j,    r_j = DEVIATIONS std_j + SHARE range_j
"""

from __future__ import annotations

import numpy as np

from sealegs_contract.robot import RobotProfile
from sealegs_contract.sample import FloatArray
from sealegs_deploy.manifest import Manifest

DEVIATIONS = 4.0
"""Positions are bounded, but not normal. By Cantelli's inequality at most 1 / (1 + 4^2) = 6% of any data lie as far out
on one side: where a joint was for longer than that, it is near."""
SHARE = 0.1
"""Of the joint's range: one that hardly moved in the data has no deviation, but never rests quite where it did. Logs of
experts that hold wrist and gripper still have starts up to 9 deviations out, which is less than 5% of the range."""


def trained_interval(manifest: Manifest, robot: RobotProfile) -> tuple[FloatArray, FloatArray] | None:
    """Lowest and highest near position (J,) rad in the order of `robot`; None where the bundle has no statistics."""
    said, spec = manifest.input_statistics, manifest.observation
    field = next((field for field in spec.fields if field.kind == "joint_position"), None)
    if said is None or field is None:
        return None
    newest = slice(-spec.size, None)  # of a history of frames
    mean = spec.split(np.array(said.mean[newest]))[field.name]
    deviation = np.abs(np.array(said.std[newest])[spec.slices()[field.name]] / field.scale)
    order = [field.joints.index(name) for name in robot.joint_names]
    ranges = np.array([joint.position_max_rad - joint.position_min_rad for joint in robot.joints])
    reach = DEVIATIONS * deviation[order] + SHARE * ranges
    return mean[order] - reach, mean[order] + reach


def far_joints(measured: FloatArray, lowest: FloatArray, highest: FloatArray, names: tuple[str, ...]) -> str:
    """The joints of the pose `measured` (J,) rad that lie outside, with what was expected; empty where it is near."""
    inside = (lowest <= measured) & (measured <= highest)  # false also where a value is not finite
    far = [
        f"{name} at {q:.3f} rad (expected {low:.3f} to {high:.3f})"
        for name, q, low, high, near in zip(names, measured, lowest, highest, inside, strict=True)
        if not near
    ]
    return ", ".join(far)
