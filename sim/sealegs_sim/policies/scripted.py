"""ScriptedPolicy: solves each task from the observation alone, through the same actions that a learned policy has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.robot import RobotProfile, load_robot
from sealegs_sim.policies.kinematics import inverse
from sealegs_sim.policies.waypoints import CLOSED_RAD, WAYPOINTS
from sealegs_sim.tasks import Task, get_task

FloatArray = NDArray[np.float64]

SERVO_LAG_S = 0.05  # (kv + viscous) / kp of assets/so101.xml: where a moving joint is heading is q + lag * qvel


class ScriptedPolicy:
    """Tip waypoint -> inverse kinematics -> joint deltas. Deterministic and without memory.

    `gain` is the share of the remaining joint error that one tick commands; `stride_m` limits how far ahead of the tip
    a waypoint may lie, which keeps paths straight.
    """

    def __init__(
        self, task: str | Task, robot: str | RobotProfile = "so101", gain: float = 0.35, stride_m: float = 0.05
    ) -> None:
        self.task = get_task(task)
        profile = robot if isinstance(robot, RobotProfile) else load_robot(robot)
        self.gain = gain
        self.stride_m = stride_m
        self._waypoint = WAYPOINTS[self.task.name]
        self._spec = self.task.observation_spec(profile)
        self.size = len(profile.joints)
        self._scale = np.asarray(self.task.action_spec(profile).scale_rad)
        self._low = np.array([joint.position_min_rad for joint in profile.joints])
        self._high = np.array([joint.position_max_rad for joint in profile.joints])

    def reset(self, rng: np.random.Generator) -> None:
        """Nothing to draw: the policy has no memory."""

    def act(self, observation: NDArray[np.floating]) -> FloatArray:
        """Action (J,) in [-1, 1] for an observation (D,)."""
        return self.act_on(self._spec.split(np.asarray(observation, dtype=np.float64)))

    def act_on(self, fields: dict[str, FloatArray]) -> FloatArray:
        """`act` on the observation's fields."""
        waypoint = self._waypoint(fields)
        return self.towards(fields, waypoint.tip, waypoint.pitch_rad, waypoint.gripper_rad)

    def towards(
        self, fields: dict[str, FloatArray], tip: FloatArray, pitch_rad: float, gripper_rad: float = CLOSED_RAD
    ) -> FloatArray:
        """Action that moves the tip towards a point (3,) m, on a straight line."""
        position, velocity = fields["joint_position"], fields["joint_velocity"]
        now = fields["gripper.object_position"]
        step = tip - now
        step *= min(1.0, self.stride_m / max(float(np.linalg.norm(step)), 1e-9))
        arm = inverse(now + step, pitch_rad, self._low, self._high)
        if arm is None:
            arm = inverse(tip, pitch_rad, self._low, self._high)
        wanted = np.concatenate([position[:4] if arm is None else arm, [0.0, gripper_rad]])
        action = self.gain * (wanted - position - SERVO_LAG_S * velocity) / self._scale
        return np.asarray(action / max(1.0, float(np.abs(action).max())))
