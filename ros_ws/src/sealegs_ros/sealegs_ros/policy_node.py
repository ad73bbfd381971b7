"""policy_node: a lifecycle node around the pure Controller. It loads verified bundles only, and nothing arms by itself.

Topics in: joint_states, objects/NAME/pose, camera/NAME/image_raw/compressed, e_stop, robot_node/status. Out:
joint_trajectory (one command a tick, stamped with its issue time and expiring after the horizon), ~/status (latched
JSON), /diagnostics at 1 Hz and at every transition, shadow/joint_trajectory and ~/shadow of a candidate. Services:
~/arm, ~/disarm, ~/resume, ~/reset_fault, ~/load_candidate, ~/swap (Trigger), ~/e_stop (SetBool).
"""

from __future__ import annotations

import gc
import json
import sys
import traceback
from pathlib import Path
from typing import Any

from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.logging import get_logger
from trajectory_msgs.msg import JointTrajectory

from sealegs_contract import topics
from sealegs_contract.errors import ControllerError, SealegsError
from sealegs_contract.robot import load_robot
from sealegs_contract.sample import JointSample, Sample
from sealegs_deploy.controller import Controller
from sealegs_deploy.states import State, Transition
from sealegs_ros import conversions, qos
from sealegs_ros.candidate import CandidateInterface
from sealegs_ros.inputs import Inputs
from sealegs_ros.loading import controller_config, declare_rules
from sealegs_ros.policy_operator import OperatorInterface
from sealegs_ros.runtime import bool_parameter, run_node, steady_timer, text_parameter

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class PolicyNode(LifecycleNode):
    """Parameters: see `_declare`. Configure loads and verifies the bundle, activate publishes, deactivate disarms."""

    def __init__(self) -> None:
        super().__init__("policy_node")
        self._declare()
        self._commands = self.create_lifecycle_publisher(JointTrajectory, topics.JOINT_TRAJECTORY, qos.COMMAND)
        self._inputs = Inputs(self, self._take)
        self._waiting = False
        self._sent = 0
        self.controller = Controller(self._robot, controller_config(self))
        self._operator = OperatorInterface(self, self.controller, self._may_arm, self._now_ns)
        self._candidate = CandidateInterface(
            self, self.controller, self._rules, self._inputs.listen, self._operator.say
        )
        self._standby = self._candidate.standby
        self.controller.on_transition = self._on_transition
        self._operator.candidate = self._standby.status
        self._operator.values = lambda: self._standby.values() | self._counts()
        # Half a period: a stale stream, or a pose that never came, is noticed well before the next tick is due.
        self._watchdog = steady_timer(self, 0.5 * self._robot.control_period_ns / 1e9, self._tick)
        self._diagnostics = steady_timer(self, 1.0, self._operator.diagnose)
        if self._autostart:
            self._start()

    def _declare(self) -> None:
        self._robot = load_robot(text_parameter(self, "robot", "so101", "shipped robot profile, or a path to one"))
        text_parameter(self, "policy_path", "", "bundle: a folder or a .zip; read at configure", changeable=True)
        self._rules = declare_rules(self)
        self._autostart = bool_parameter(self, "autostart", False, "configure and activate at once, or end; not arm")
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
        path, rules = str(self.get_parameter("policy_path").value), self._rules
        try:
            if not path:
                raise ControllerError("parameter policy_path is empty: give a bundle (policy_path:=FOLDER or FILE.zip)")
            bundle = rules.load(path, self.controller.config)
            with rules.remembering(bundle):
                choice = self.controller.configure(bundle, rules.provider, self._now_ns(), rules.provider_strict)
            self._inputs.listen(bundle.manifest.observation)
            self._candidate.configure()
        except (SealegsError, OSError) as error:
            self._forget_policy()
            self._operator.refuse(f"not configured: {' '.join(str(error).split())}")
            return FAILURE
        except Exception:
            # rclpy would turn this into a silent transition to the error state.
            self._forget_policy()
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
        self._forget_policy()
        return super().on_cleanup(state)

    def _forget_policy(self) -> None:
        self._inputs.close()
        self._standby.drop("policy removed")
        self.controller.unconfigure(self._now_ns())

    def close(self) -> None:
        """At shutdown: log the timing, and write it to `timing_path`."""
        self._standby.close()
        # Not the node's own logger: at shutdown there is no /rosout any more to publish to.
        get_logger("policy_timing").info(json.dumps(self.controller.timing()))
        if self._timing_path:
            report = self.controller.loop_timing.full() | self._counts()
            Path(self._timing_path).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    # Streams and commands

    def _take(self, sample: Sample, received_ns: int) -> None:
        """Tick on joint samples, once the poses of the same moment are there too."""
        rejected, now_ns = self.controller.rejected_samples, self._now_ns()
        taken = self.controller.push(sample, now_ns, received_ns)
        self._standby.take(sample, now_ns, received_ns)
        if self.controller.rejected_samples > rejected:
            self.get_logger().warning(f"sample refused: {self.controller.last_rejection}", throttle_duration_sec=1.0)
        if taken and (self._waiting or isinstance(sample, JointSample)):
            self._waiting = bool(self.controller.waiting_for())
            if not self._waiting:
                self._tick(sample.stamp_ns)

    def _tick(self, stamp_ns: int = 0) -> None:
        # A /clock message may arrive after the samples of its moment.
        now_ns, command = max(self._now_ns(), stamp_ns), None
        history = self.controller.history
        if self._commands.is_activated:
            command = self.controller.tick(now_ns)
        if command is not None:
            self._commands.publish(conversions.to_message(command))
            self.controller.sent()
            self._sent += 1
        self._standby.after(now_ns, command, history)

    def _on_transition(self, transition: Transition) -> None:
        self._standby.on_transition(transition)
        self._operator.on_transition(transition)

    def _may_arm(self) -> None:
        if not self._commands.is_activated:
            raise ControllerError(f"cannot arm: the node is not active ({self.controller.reason})")

    def _counts(self) -> dict[str, int]:
        return {"commands": self._sent, "malformed": self._inputs.malformed}

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def main() -> int:
    """Console script and `python -m sealegs_ros.policy_node`."""
    return run_node(PolicyNode)


if __name__ == "__main__":
    sys.exit(main())
