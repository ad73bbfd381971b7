"""Randomised starts: pure functions of a generator, shared by the single env, the vectorised env and the backend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sealegs_sim.scene import Scene

FloatArray = NDArray[np.float64]

PAN_AXIS_X_M = 0.0388  # the shoulder's vertical axis, from base_link
HANDLE_HEIGHT_M = 0.055
CUBE_HALF_M = 0.018


@dataclass(frozen=True)
class Start:
    """State at rest: qpos (nq,), mocap positions (nmocap, 3) m and quaternions wxyz (nmocap, 4)."""

    qpos: FloatArray
    mocap_pos: FloatArray
    mocap_quat: FloatArray


@dataclass(frozen=True)
class StartRanges:
    """Ranges of the randomisation; radii from the shoulder's vertical axis, azimuths from straight ahead (+: left,
    away from the front camera, which sees every start whole)."""

    joint_noise_rad: float = 0.08
    reach_radius_m: tuple[float, float] = (0.14, 0.26)
    reach_azimuth_rad: tuple[float, float] = (-0.7, 0.9)
    reach_height_m: tuple[float, float] = (0.04, 0.18)
    cube_radius_m: tuple[float, float] = (0.155, 0.185)
    cube_azimuth_rad: tuple[float, float] = (-0.35, 0.5)
    push_distance_m: tuple[float, float] = (0.07, 0.10)
    push_turn_rad: tuple[float, float] = (-0.2, 0.2)
    handle_radius_m: tuple[float, float] = (0.210, 0.240)
    handle_azimuth_rad: tuple[float, float] = (-0.3, 0.5)


DEFAULT_RANGES = StartRanges()


def polar(radius_m: float, azimuth_rad: float, height_m: float) -> FloatArray:
    """Point (3,) in base_link from polar coordinates around the shoulder's vertical axis."""
    return np.array([PAN_AXIS_X_M + radius_m * np.cos(azimuth_rad), radius_m * np.sin(azimuth_rad), height_m])


def yaw_quaternion(angle_rad: float) -> FloatArray:
    """Rotation about z as quaternion wxyz (4,)."""
    return np.array([np.cos(0.5 * angle_rad), 0.0, 0.0, np.sin(0.5 * angle_rad)])


def sample_start(scene: Scene, rng: np.random.Generator, ranges: StartRanges = DEFAULT_RANGES) -> Start:
    """Draw a start: the home pose with noise, then the task's objects. Equal generators give equal starts."""
    robot = scene.robot
    qpos = scene.model.qpos0.copy()
    noise = rng.uniform(-ranges.joint_noise_rad, ranges.joint_noise_rad, len(robot.joints))
    low = [joint.position_min_rad for joint in robot.joints]
    high = [joint.position_max_rad for joint in robot.joints]
    qpos[scene.joint_qpos] = np.clip(robot.home_rad + noise, low, high)
    mocap_quat = np.array([[1.0, 0.0, 0.0, 0.0]])
    match scene.task.name:
        case "reach":
            position = polar(
                rng.uniform(*ranges.reach_radius_m),
                rng.uniform(*ranges.reach_azimuth_rad),
                rng.uniform(*ranges.reach_height_m),
            )
        case "push":
            azimuth = rng.uniform(*ranges.cube_azimuth_rad)
            cube = polar(rng.uniform(*ranges.cube_radius_m), azimuth, CUBE_HALF_M)
            way, turn = rng.uniform(*ranges.push_distance_m), azimuth + rng.uniform(*ranges.push_turn_rad)
            at = scene.joint_address("cube")
            qpos[at : at + 7] = np.concatenate([cube, yaw_quaternion(azimuth + rng.uniform(-0.15, 0.15))])
            position = cube + way * np.array([np.cos(turn), np.sin(turn), 0.0])
            position[2] = 0.0
        case _:
            azimuth = rng.uniform(*ranges.handle_azimuth_rad)
            position = polar(rng.uniform(*ranges.handle_radius_m), azimuth, HANDLE_HEIGHT_M)
            # The cabinet faces the shoulder, so its direction follows from its position.
            mocap_quat = yaw_quaternion(azimuth)[None]
    return Start(qpos, position[None], mocap_quat)
