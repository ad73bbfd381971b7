"""Who stands beside the nodes of an experiment: an operator, a watch on the monotonic clock, a robot made of topics.

Imported by the experiments only while they run: it needs ROS.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from sealegs.faults.live.nodes import DISCOVERY_S, Client
from sealegs_contract import topics
from sealegs_contract.errors import MachineError
from sealegs_contract.robot import RobotProfile
from sealegs_contract.sample import CommandSample, FloatArray, JointSample, PoseSample
from sealegs_ros import qos
from sealegs_ros.conversions import clock_message, from_message, to_message

ARMING_S = 30.0
ATTEMPTS = 8
MOVING_S = 10.0
UNDERWAY_S = 0.3
QUIET_S = 0.7
"""For so long nobody has commanded when the robot node's fault is reset, and everybody has heard when it was."""


class Operator:
    """Watches one policy node and its robot node, and calls their services.

    Its queues are deep, as those of the Watch: what a busy machine keeps it from reading is not lost.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.statuses = client.collect(String, "policy_node/status", qos.RECORD_LATCHED)
        self._e_stop: Any = None
        self.robot_statuses = client.collect(String, topics.ROBOT_STATUS, qos.RECORD_LATCHED)
        self.commands = client.collect(JointTrajectory, topics.JOINT_TRAJECTORY, qos.RECORD)
        self.diagnostics = client.collect(DiagnosticArray, topics.DIAGNOSTICS, qos.RECORD)

    @property
    def state(self) -> str:
        """The policy node's newest state; empty before its first word."""
        return json.loads(self.statuses[-1].data)["state"] if self.statuses else ""

    @property
    def robot_state(self) -> str:
        """The robot node's newest state; empty before its first word."""
        return json.loads(self.robot_statuses[-1].data)["state"] if self.robot_statuses else ""

    def wait_for(self, state: str, timeout_s: float = DISCOVERY_S) -> dict[str, Any]:
        """The status in which the policy node says that it is in `state`."""
        if not self.client.within(timeout_s, lambda: self.state == state):
            raise MachineError(f"the policy node did not become {state} within {timeout_s} s, it is {self.state!r}")
        status: dict[str, Any] = json.loads(self.statuses[-1].data)
        return status

    def call(self, name: str, node: str = "policy_node") -> Any:
        """Call a service of a node."""
        return self.client.call(Trigger, f"{node}/{name}")

    def e_stop(self, pressed: bool, node: str = "policy_node") -> Any:
        """Press or release the emergency stop of a node."""
        return self.client.call(SetBool, f"{node}/e_stop", SetBool.Request(data=pressed))

    def publish_e_stop(self, pressed: bool) -> None:
        """Press or release the emergency stop of whoever listens to its topic."""
        if self._e_stop is None:
            self._e_stop = self.client.node.create_publisher(Bool, topics.E_STOP, qos.E_STOP)
            self.client.spin_until(self._e_stop.get_subscription_count, what="listeners to the emergency stop")
        self._e_stop.publish(Bool(data=pressed))

    def stand_down(self) -> None:
        """The robot node without a fault and the policy node disarmed, from whatever states they are in."""
        if self.state in {"active", "hold"}:
            self.call("disarm")
        if self.robot_state == "FAULT":
            self.client.spin_for(QUIET_S)
            self._insist("reset_fault", "robot_node")
            self.client.spin_until(lambda: self.robot_state != "FAULT", what="the robot node without a fault")
            self.client.spin_for(QUIET_S)  # the policy node may hear later than we do what the robot node was and is
        end = {"active": "disarm", "hold": "disarm", "fault": "reset_fault"}

        def rests() -> bool:
            if self.state in end:
                self.call(end[self.state])
            return self.state == "disarmed"

        # Again: what it was a moment ago may be said only now.
        self.client.spin_until(rests, what="the policy node disarmed")

    def arm(self) -> None:
        """Streams may still be on their way to the node: try until it has them."""
        self._insist("arm")

    def _insist(self, name: str, node: str = "policy_node") -> None:
        """Call a service until it does what it says."""
        end = time.monotonic() + ARMING_S
        while not (response := self.call(name, node)).success:
            if time.monotonic() > end:
                raise MachineError(f"{name} of the {node.replace('_', ' ')} is refused: {response.message}")
            self.client.spin_for(0.1)

    def arm_anew(self) -> None:
        """Arm, from whatever state the policy node is in; it may still be starting."""
        self.client.spin_until(lambda: self.state, ARMING_S, "the policy node's status")
        self.stand_down()
        self.arm()

    def set_off(self, moving: Callable[[], bool]) -> None:
        """Arm until `moving()`, and a while longer: again where a busy machine made a node late, so that it holds."""
        for _ in range(ATTEMPTS):
            self.arm_anew()
            self.client.within(MOVING_S, lambda: moving() or self.state != "active")
            self.client.spin_for(UNDERWAY_S)
            if moving() and self.state == "active":
                return
        raise MachineError(f"nothing moves after arming {ATTEMPTS} times; the policy node: {self.statuses[-1].data}")

    def values(self, node: str = "policy_node") -> dict[str, str]:
        """Newest diagnostics of a node."""
        for message in reversed(self.diagnostics):
            for status in message.status:
                if status.name.endswith(node):
                    return {pair.key: pair.value for pair in status.values}
        return {}


class Watch:
    """Notes when, in seconds of the monotonic clock, the nodes say what."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.robot: list[tuple[float, str]] = []
        """The robot node's state, HOLD, ACTIVE or FAULT, at its diagnostics: once a second, and at each change."""
        self.policy: list[tuple[float, str]] = []
        """The policy node's state at each change."""
        self.joints: list[tuple[float, JointSample]] = []
        self.commands: list[tuple[float, CommandSample]] = []
        client.listen(DiagnosticArray, topics.DIAGNOSTICS, qos.RECORD, self._on_diagnostics)
        client.listen(String, "policy_node/status", qos.RECORD_LATCHED, self._on_status)
        client.listen(JointState, topics.JOINT_STATES, qos.RECORD, self._on_joints)
        client.listen(JointTrajectory, topics.JOINT_TRAJECTORY, qos.RECORD, self._on_command)

    def robot_is(self, state: str | tuple[str, ...], since: float, timeout_s: float) -> float | None:
        """When the robot node first said so after `since`; None where it did not within `timeout_s`."""
        return self._when(self.robot, (state,) if isinstance(state, str) else state, since, timeout_s)

    def policy_is(self, states: tuple[str, ...], since: float, timeout_s: float) -> float | None:
        """When the policy node first said one of `states` after `since`; None where it did not."""
        return self._when(self.policy, states, since, timeout_s)

    @property
    def position(self) -> FloatArray:
        """Newest measured position (J,) rad."""
        return self.joints[-1][1].position

    @property
    def speed(self) -> float:
        """The fastest joint's newest measured speed, rad/s."""
        return float(np.abs(self.joints[-1][1].velocity).max()) if self.joints else 0.0

    def travel(self, since: float) -> float:
        """How far any joint got from where it was at the last sample before `since`, rad."""
        before = sum(at <= since for at, _ in self.joints)
        path = np.array([sample.position for _, sample in self.joints[max(before - 1, 0) :]])
        return float(np.abs(path - path[0]).max()) if len(path) else 0.0

    def forget(self) -> None:
        """Drop what was noted: a long experiment needs the newest only."""
        for notes in (self.robot, self.policy, self.joints, self.commands):
            del notes[:-1]

    def _when(
        self, notes: list[tuple[float, str]], states: tuple[str, ...], since: float, timeout_s: float
    ) -> float | None:
        def first() -> float | None:
            return next((at for at, said in notes if at > since and said in states), None)

        return cast("float | None", self.client.within(timeout_s, first))

    def _on_diagnostics(self, at: float, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith("robot_node"):
                self.robot.append((at, {pair.key: pair.value for pair in status.values}.get("state", "")))

    def _on_status(self, at: float, message: String) -> None:
        self.policy.append((at, json.loads(message.data)["state"]))

    def _on_joints(self, at: float, message: JointState) -> None:
        self.joints.append((at, cast(JointSample, from_message(topics.JOINT_STATES, message))))

    def _on_command(self, at: float, message: JointTrajectory) -> None:
        self.commands.append((at, cast(CommandSample, from_message(topics.JOINT_TRAJECTORY, message))))


class FakeRobot:
    """Publishes joints and object poses at 50 Hz with wall-clock stamps; `silent` names streams that stopped.

    `offset_ns` is added to its clock, which it publishes too; `frozen_ns` stands in all its stamps. It stands at home,
    or wherever `follow` takes it.
    """

    def __init__(self, client: Client, robot: RobotProfile, objects: tuple[str, ...]) -> None:
        self.robot = robot
        self.silent: set[str] = set()
        self.frozen_ns: int | None = None
        self.offset_ns = 0
        self.position = robot.home_rad
        self.stamp_ns = 0
        self.last: dict[str, float] = {}
        """When each stream was last published, in seconds of the monotonic clock."""
        self.poses = {
            name: client.node.create_publisher(PoseStamped, topics.object_pose(name), qos.STREAM) for name in objects
        }
        self.clock = client.node.create_publisher(Clock, topics.CLOCK, qos.STREAM)
        self.joints = client.node.create_publisher(JointState, topics.JOINT_STATES, qos.STREAM)
        client.node.create_timer(0.02, self.publish)

    def publish(self) -> None:
        """One sample of each stream that is not silent."""
        now = time.time_ns() + self.offset_ns
        stamp = self.stamp_ns = self.frozen_ns or now
        self.clock.publish(clock_message(now))
        for name, publisher in self.poses.items():
            if name not in self.silent:
                quaternion = np.array([0.0, 0.0, 0.0, 1.0])
                publisher.publish(to_message(PoseSample(stamp, name, "base_link", np.full(3, 0.1), quaternion)))
                self.last[name] = time.monotonic()
        if topics.JOINT_STATES not in self.silent:
            zeros = np.zeros(len(self.robot.joints))
            self.joints.publish(to_message(JointSample(stamp, self.robot.joint_names, self.position, zeros, zeros)))
            self.last[topics.JOINT_STATES] = time.monotonic()

    def follow(self, _: float, message: JointTrajectory) -> None:
        """Be where the command says (a listener: see Client.listen)."""
        self.position = cast(CommandSample, from_message(topics.JOINT_TRAJECTORY, message)).position[-1]
