"""policy_node: a lifecycle node around the pure Controller. It loads verified bundles only, and nothing arms by itself.

Topics in: joint_states, objects/NAME/pose, camera/NAME/image_raw/compressed. Out: joint_trajectory (one command a tick,
stamped with its issue time and expiring after the horizon), ~/status (latched JSON), /diagnostics at 1 Hz. Services:
~/arm, ~/disarm, ~/resume, ~/reset_fault (Trigger), ~/e_stop (SetBool).
"""

from __future__ import annotations

import gc
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.logging import get_logger
from sensor_msgs.msg import CompressedImage, JointState
from trajectory_msgs.msg import JointTrajectory

from sealegs_contract import topics
from sealegs_contract.errors import ControllerError, SealegsError
from sealegs_contract.robot import load_robot
from sealegs_contract.sample import CommandSample, JointSample, Sample
from sealegs_contract.spec import ObservationSpec
from sealegs_deploy.bundle import load_bundle
from sealegs_deploy.controller import Controller
from sealegs_deploy.rollback import no_rollback
from sealegs_deploy.states import ControllerConfig, State
from sealegs_ros import conversions, qos
from sealegs_ros.policy_operator import OperatorInterface
from sealegs_ros.runtime import (
    bool_parameter,
    integer_parameter,
    number_parameter,
    run_node,
    steady_timer,
    text_parameter,
)

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class PolicyNode(LifecycleNode):
    """Parameters: see `_declare`. Configure loads and verifies the bundle, activate publishes, deactivate disarms."""

    def __init__(self) -> None:
        super().__init__("policy_node")
        self._declare()
        self._commands = self.create_lifecycle_publisher(JointTrajectory, topics.JOINT_TRAJECTORY, qos.COMMAND)
        self._inputs: list[Any] = []
        self._waiting = False
        self._counts = {"commands": 0, "malformed": 0}
        self.controller = Controller(self._robot, ControllerConfig(command_horizon_ms=self._horizon_ms or None))
        self._operator = OperatorInterface(self, self.controller, self._may_arm, self._now_ns)
        # Half a period: a stale stream, or a pose that never came, is noticed well before the next tick is due.
        self._watchdog = steady_timer(self, 0.5 * self._robot.control_period_ns / 1e9, self._tick)
        self._diagnostics = steady_timer(self, 1.0, lambda: self._operator.diagnose(self._counts))
        if self._autostart:
            self._start()

    def _declare(self) -> None:
        self._robot = load_robot(text_parameter(self, "robot", "so101", "shipped robot profile, or a path to one"))
        text_parameter(self, "policy_path", "", "bundle: a folder or a .zip")
        text_parameter(self, "provider", "cpu", "onnxruntime execution provider: cpu, cuda, tensorrt or auto")
        bool_parameter(self, "provider_strict", False, "refuse a bundle whose provider does not start, not fall back")
        text_parameter(self, "trusted_keys", "", "files with further public keys to trust, separated by ':'")
        integer_parameter(self, "minimum_version", 0, "refuse bundles with a lower version counter")
        bool_parameter(self, "allow_rollback", False, "configure a version older than one that ran here before")
        self._autostart = bool_parameter(self, "autostart", False, "configure and activate at once, or end; not arm")
        self._horizon_ms = number_parameter(self, "command_horizon_ms", 0.0, "validity of a command; 0: the bundle's")
        self._timing_path = text_parameter(self, "timing_path", "", "write timing.json here at shutdown")
        if self._timing_path and not Path(self._timing_path).parent.is_dir():
            raise ControllerError(f"timing_path: there is no folder {Path(self._timing_path).parent}")

    def _start(self) -> None:
        """Configure and activate, without an operator who could mend the parameters and try again: else the end."""
        if self.trigger_configure() != SUCCESS:
            raise ControllerError(self.controller.reason)
        if self.trigger_activate() != SUCCESS:
            raise ControllerError(f"not activated: {self.controller.reason}")

    # Lifecycle

    def on_configure(self, state: Any) -> TransitionCallbackReturn:
        """Load the bundle, verify it, and listen to the streams that it needs."""
        path, keys = self._text("policy_path"), self._text("trusted_keys")
        try:
            if not path:
                raise ControllerError("parameter policy_path is empty: give a bundle (policy_path:=FOLDER or FILE.zip)")
            minimum = int(self.get_parameter("minimum_version").value)
            bundle = load_bundle(path, [key for key in keys.split(":") if key], minimum)
            strict = bool(self.get_parameter("provider_strict").value)
            with no_rollback(bundle, bool(self.get_parameter("allow_rollback").value)):
                choice = self.controller.configure(bundle, self._text("provider"), self._now_ns(), strict)
        except (SealegsError, OSError) as error:
            self.controller.unconfigure(self._now_ns())
            self._operator.refuse(f"not configured: {' '.join(str(error).split())}")
            return FAILURE
        except Exception:
            # rclpy would turn this into a silent transition to the error state.
            self._operator.refuse(f"not configured, internal error: {traceback.format_exc()}")
            return FAILURE
        manifest = bundle.manifest
        self.get_logger().info(
            f"policy {manifest.name} version {manifest.version}, signed by {bundle.key_id}, for {manifest.robot.name} "
            f"at {manifest.rate_hz:g} Hz on {choice.used}; arm it with {self.get_name()}/arm"
        )
        if choice.fell_back:
            self.get_logger().warning(choice.line)
        else:
            self.get_logger().info(choice.line)
        self._subscribe(manifest.observation)
        return super().on_configure(state)

    def on_activate(self, state: Any) -> TransitionCallbackReturn:
        """Commands may flow from here, once armed."""
        # What is alive now lives until the end: the collector need not scan it in the middle of a tick.
        gc.collect()
        gc.freeze()
        return super().on_activate(state)

    def on_deactivate(self, state: Any) -> TransitionCallbackReturn:
        """Disarm; the robot node's watchdog then holds."""
        if self.controller.state in {State.ACTIVE, State.HOLD}:
            self.controller.disarm(self._now_ns())
        return super().on_deactivate(state)

    def on_cleanup(self, state: Any) -> TransitionCallbackReturn:
        """Drop the policy and its subscriptions."""
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs.clear()
        self.controller.unconfigure(self._now_ns())
        return super().on_cleanup(state)

    def close(self) -> None:
        """At shutdown: log the timing, and write it to `timing_path`."""
        # Not the node's own logger: at shutdown there is no /rosout any more to publish to.
        get_logger("policy_timing").info(json.dumps(self.controller.timing()))
        if self._timing_path:
            report = self.controller.loop_timing.full() | self._counts
            Path(self._timing_path).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    # Streams and commands

    def _subscribe(self, observation: ObservationSpec) -> None:
        wanted: list[tuple[type, str, Any]] = [(JointState, topics.JOINT_STATES, qos.STREAM)]
        objects = sorted({field.object_name for field in observation.fields if field.object_name})
        wanted += [(PoseStamped, topics.object_pose(name), qos.STREAM) for name in objects]
        wanted += [(CompressedImage, topics.camera_image(image.camera), qos.IMAGE) for image in observation.images]
        for kind, topic, quality in wanted:
            self._inputs.append(self.create_subscription(kind, topic, self._listener(topic), quality))

    def _listener(self, topic: str) -> Callable[[Any], None]:
        def on_message(message: Any) -> None:
            received_ns = time.perf_counter_ns()
            try:
                sample = conversions.from_message(topic, message)
            except SealegsError as error:
                self._counts["malformed"] += 1
                self.get_logger().warning(f"message refused: {error}", throttle_duration_sec=1.0)
                return
            self._take(sample, received_ns)

        return on_message

    def _take(self, sample: Sample, received_ns: int) -> None:
        """Tick on joint samples, once the poses of the same moment are there too."""
        rejected = self.controller.rejected_samples
        taken = self.controller.push(sample, self._now_ns(), received_ns)
        if self.controller.rejected_samples > rejected:
            self.get_logger().warning(f"sample refused: {self.controller.last_rejection}", throttle_duration_sec=1.0)
        if taken and (self._waiting or isinstance(sample, JointSample)):
            self._waiting = bool(self.controller.waiting_for())
            if not self._waiting:
                self._tick(sample.stamp_ns)

    def _tick(self, stamp_ns: int = 0) -> None:
        if not self._commands.is_activated:
            return
        # A /clock message may arrive after the samples of its moment.
        command = self.controller.tick(max(self._now_ns(), stamp_ns))
        if command is not None:
            self._send(command)

    def _send(self, command: CommandSample) -> None:
        self._commands.publish(conversions.to_message(command))
        self.controller.sent()
        self._counts["commands"] += 1

    def _may_arm(self) -> None:
        if not self._commands.is_activated:
            raise ControllerError(f"cannot arm: the node is not active ({self.controller.reason})")

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _text(self, name: str) -> str:
        return str(self.get_parameter(name).value)


def main() -> int:
    """Console script and `python -m sealegs_ros.policy_node`."""
    return run_node(PolicyNode)


if __name__ == "__main__":
    sys.exit(main())
