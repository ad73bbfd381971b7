"""robot_node: the robot, simulated or real. It owns the last check on every command, and its own watchdog.

Topics out: /clock (simulated), objects/NAME/pose, joint_states (last of a tick), then camera images, task (latched),
~/status (latched), /diagnostics. In: joint_trajectory, stamped with its issue time and expiring at its last point;
e_stop. Services: ~/reset, ~/e_stop, ~/reset_fault.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from sealegs_contract import topics
from sealegs_contract.errors import BackendError, SealegsError
from sealegs_contract.robot import load_robot
from sealegs_ros import conversions, qos
from sealegs_ros.backends import make_backend
from sealegs_ros.commands import read_command
from sealegs_ros.robot_loop import Observed, RobotLoop
from sealegs_ros.robot_operator import RobotOperator
from sealegs_ros.runtime import (
    bool_parameter,
    integer_parameter,
    number_parameter,
    run_node,
    steady_timer,
    text_parameter,
)


class RobotNode(Node):
    """Parameters: robot, task, seed (read at each reset; negative: the next start of the running generator), images,
    viewer, real_time_factor, lockstep, many_commanders, e_stop_topics, timing_path.
    """

    def __init__(self) -> None:
        super().__init__("robot_node")
        robot = load_robot(text_parameter(self, "robot", "so101", "shipped robot profile, or a path to one"))
        task = text_parameter(self, "task", "drawer", "simulated task")
        seed = integer_parameter(self, "seed", 0, "seed of the next reset; negative: goes on", changeable=True)
        images = bool_parameter(self, "images", True, "render and publish camera images")
        viewer = bool_parameter(self, "viewer", False, "open MuJoCo's window on the simulation")
        factor = number_parameter(self, "real_time_factor", 1.0, "simulated seconds per second")
        self._lockstep = bool_parameter(self, "lockstep", False, "simulation waits for each command in turn")
        many = bool_parameter(self, "many_commanders", False, "follow the newest of several commanders, no FAULT")
        self._timing_path = text_parameter(self, "timing_path", "", "write the loop's timing here, as JSON, at the end")
        if not 0.01 <= factor <= 100.0:
            raise BackendError(f"real_time_factor must lie in [0.01, 100], got {factor}")
        backend, text = make_backend(robot, task, seed, images and bool(robot.cameras), viewer)
        self._simulated = backend.simulated
        if not self._simulated and (factor != 1.0 or self._lockstep):
            raise BackendError("real_time_factor and lockstep are for simulated robots only")
        self._loop = RobotLoop(backend, factor, images, many)
        self._due: tuple[str, ...] = ()
        self._open_topics()
        self._render_timer = steady_timer(self, 0.5 * self._loop.pacer.period_ns / 1e9, self._render)
        observed = self._loop.start()
        self._task.publish(String(data=text))
        self._publish(observed)
        self._operator = RobotOperator(self, self._loop, self._commands, self._new_episode)
        self._tick_timer = steady_timer(self, self._loop.pacer.period_ns / 1e9, self._tick)
        self._diagnostics_timer = steady_timer(self, 1.0, self._operator.diagnose)
        self.get_logger().info(f"{robot.name} ready: task {task}, {robot.control_rate_hz:g} Hz")

    def close(self) -> None:
        """Leave the robot holding its pose, and write the timing."""
        self._loop.backend.close()
        if self._timing_path:
            Path(self._timing_path).write_text(json.dumps(self._loop.timing(), indent=1) + "\n", encoding="utf-8")

    def _open_topics(self) -> None:
        robot = self._loop.robot
        self._joints = self.create_publisher(JointState, topics.JOINT_STATES, qos.STREAM)
        self._clock_topic = self.create_publisher(Clock, topics.CLOCK, qos.STREAM) if self._simulated else None
        self._poses = {
            name: self.create_publisher(PoseStamped, topics.object_pose(name), qos.STREAM) for name in robot.objects
        }
        cameras = robot.cameras if self._loop.renders else ()
        self._images = {
            c.name: self.create_publisher(CompressedImage, topics.camera_image(c.name), qos.IMAGE) for c in cameras
        }
        self._infos = {
            c.name: self.create_publisher(CameraInfo, topics.camera_info(c.name), qos.STREAM) for c in cameras
        }
        self._task = self.create_publisher(String, topics.TASK, qos.LATCHED)
        self._commands = self.create_subscription(
            JointTrajectory, topics.JOINT_TRAJECTORY, self._on_command, qos.COMMAND, raw=True
        )

    def _on_command(self, message: bytes) -> None:
        received_ns = time.monotonic_ns()
        self._operator.count_commanders()
        self._loop.latch.heard(received_ns)
        try:
            command = read_command(message, len(self._loop.robot.joints))
        except SealegsError as error:
            self._operator.malformed += 1
            self.get_logger().warning(f"command ignored: {error}", throttle_duration_sec=1.0)
            return
        reason = self._loop.gate.refuse(command) if isinstance(command, str) else self._loop.offer(command, received_ns)
        if reason is not None:
            self.get_logger().warning(f"command ignored: {reason}", throttle_duration_sec=1.0)
        self._operator.tell()
        self._render()

    def _tick(self) -> None:
        begin_ns = time.monotonic_ns()
        self._operator.count_commanders()
        if self._lockstep and self._loop.must_wait(begin_ns):
            return
        self._render()
        self._publish(self._loop.tick(begin_ns))
        self._loop.pacer.end(time.monotonic_ns())
        self._operator.tell()

    def _publish(self, observed: Observed) -> None:
        """Joints go last of the state, so that their arrival means that all of it has been sent."""
        if self._clock_topic is not None:
            self._clock_topic.publish(conversions.clock_message(observed.now_ns))
        for pose in observed.objects:
            if pose.object_name in self._poses:
                self._poses[pose.object_name].publish(conversions.to_message(pose))
        joints = conversions.to_message(observed.joints)
        self._loop.published(observed, time.monotonic_ns())
        self._joints.publish(joints)
        self._due = observed.cameras
        self._render_timer.reset()

    def _render(self) -> None:
        """Images of the state that was published last, in the idle part of the period: rendering takes milliseconds.

        Called once the command for that state has arrived, or half a period after it where nobody commands.
        """
        self._render_timer.cancel()
        due, self._due = self._due, ()
        for image in self._loop.images(due):
            camera = self._loop.robot.camera(image.camera)
            self._infos[image.camera].publish(conversions.camera_info(camera, image.stamp_ns))
            self._images[image.camera].publish(conversions.to_message(image))

    def _new_episode(self) -> str:
        seed = int(self.get_parameter("seed").value)
        start = self._loop.reset(seed if seed >= 0 else None)
        self._publish(start)
        self._render()  # before the answer: who records next has images of the new start
        return f"episode {self._loop.episode} with seed {seed}, from {start.now_ns / 1e9:.9f} s"


def main() -> int:
    """Console script and `python -m sealegs_ros.robot_node`."""
    return run_node(RobotNode)


if __name__ == "__main__":
    sys.exit(main())
