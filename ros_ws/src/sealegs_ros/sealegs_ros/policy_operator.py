"""The operator's side of the policy node: services and emergency stop in; status, /diagnostics and log lines out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import Trigger

from sealegs_contract import topics
from sealegs_contract.errors import ControllerError
from sealegs_deploy.controller import Controller
from sealegs_deploy.states import State, Transition
from sealegs_deploy.timing import RECENT, flat
from sealegs_ros import conversions, qos, scheduling
from sealegs_ros.conversions import ERROR, OK, WARN
from sealegs_ros.e_stop import SERVICE, EmergencyStop

LEVELS = {State.ACTIVE: OK, State.DISARMED: OK, State.UNCONFIGURED: WARN, State.HOLD: WARN, State.FAULT: ERROR}


class OperatorInterface:
    """~/arm, ~/disarm, ~/resume, ~/reset_fault (Trigger), ~/e_stop (SetBool), ~/status (latched JSON), /diagnostics.

    It listens to the emergency stop's topic and to the robot node's state: FAULT there is FAULT here.
    `may_arm` raises ControllerError while the node itself is not ready. `now_ns` is robot time. `candidate` and
    `values` are added to the status and to the diagnostics.
    """

    def __init__(
        self, node: Node, controller: Controller, may_arm: Callable[[], None], now_ns: Callable[[], int]
    ) -> None:
        self._node, self._controller, self._may_arm, self._now_ns = node, controller, may_arm, now_ns
        self.candidate: Callable[[], Mapping[str, Any]] = dict
        self.values: Callable[[], Mapping[str, Any]] = dict
        self._pressed: set[str] = set()
        self._robot_fault = ""
        self._timing: dict[str, Any] = {}
        self._status = node.create_publisher(String, "~/status", qos.LATCHED)
        self._diagnostics = node.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, qos.STREAM)
        actions = {
            "arm": self._arm,
            "disarm": controller.disarm,
            "resume": self._resume,
            "reset_fault": self._reset_fault,
        }
        for name, action in actions.items():
            node.create_service(Trigger, f"~/{name}", self._service(action))
        self._e_stop = EmergencyStop(node, self._press, self._after_e_stop)
        node.create_subscription(String, topics.ROBOT_STATUS, self._on_robot_status, qos.LATCHED)
        self.publish()

    def refuse(self, reason: str) -> None:
        """The policy cannot be configured: say why in the log, in the status, and to whoever tries to arm."""
        self._controller.reason = reason
        self._node.get_logger().error(reason)
        self.publish()

    def on_transition(self, transition: Transition) -> None:
        """The controller's: into the log, the status and the diagnostics, at once."""
        text = f"{transition.before} -> {transition.after}: {transition.reason}"
        self.say(text, transition.after in {State.HOLD, State.FAULT})

    def say(self, text: str, bad: bool) -> None:
        """A line for the log, and what has changed for everybody else."""
        logger = self._node.get_logger()
        # One call site per severity: rclpy refuses a site whose severity changes.
        if bad:
            logger.warning(text)
        else:
            logger.info(text)
        self.publish()

    def publish(self) -> None:
        """Status and diagnostics; the timing in them is that of the last `diagnose`, which takes a while to compute."""
        status = self._controller.status() | {"candidate": self.candidate()}
        self._status.publish(String(data=json.dumps(status)))
        self._publish_diagnostics()

    def diagnose(self) -> None:
        """Publish state, timing over the newest ticks, and the node's own counts."""
        self._timing = flat(self._controller.timing(RECENT))
        self._publish_diagnostics()

    def _publish_diagnostics(self) -> None:
        controller, name = self._controller, self._node.get_fully_qualified_name()
        candidate = flat({"candidate": self.candidate()})
        values = {**controller.status(), **candidate, **self._timing, **self.values(), **scheduling.texts()}
        level, text = LEVELS[controller.state], str(controller.state)
        if shared := self._e_stop.shared():
            level, text = max(level, WARN), f"{text}; {shared}"
        status = conversions.diagnostic_status(name, level, text, values, controller.robot.name)
        self._diagnostics.publish(conversions.diagnostic_array(self._now_ns(), [status]))

    def _arm(self, now_ns: int) -> None:
        self._check_robot("arm")
        self._may_arm()
        self._controller.arm(now_ns)

    def _resume(self, now_ns: int) -> None:
        self._check_robot("resume")
        self._controller.resume(now_ns)

    def _reset_fault(self, now_ns: int) -> None:
        self._check_robot("reset the fault")
        self._controller.reset_fault(now_ns)

    def _check_robot(self, what: str) -> None:
        if self._robot_fault:
            raise ControllerError(f"cannot {what}: {self._robot_fault}; call reset_fault of the robot node first")

    def _service(self, action: Callable[[int], None]) -> Callable[[Any, Any], Any]:
        def on_request(_: Any, response: Any) -> Any:
            try:
                action(self._now_ns())
                response.success, response.message = True, f"{self._controller.state}: {self._controller.reason}"
            except ControllerError as error:
                response.success, response.message = False, str(error)
            return response

        return on_request

    def _after_e_stop(self) -> str:
        others = ", ".join(sorted(self._pressed - {SERVICE}))
        still = f", still pressed ({others})" if others and SERVICE not in self._pressed else ""
        return f"{self._controller.state}: {self._controller.reason}{still}"

    def _press(self, pressed: bool, source: str) -> None:
        """It is pressed while any source says so: releasing one does not undo another."""
        if pressed == (source in self._pressed):
            return
        if pressed:
            self._pressed.add(source)
        else:
            self._pressed.discard(source)
        self._controller.e_stop(bool(self._pressed), self._now_ns())
        self.publish()

    def _on_robot_status(self, message: String) -> None:
        try:
            status = json.loads(message.data)
            state, reason = str(status["state"]), str(status.get("reason", ""))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self._node.get_logger().warning(
                f"{topics.ROBOT_STATUS} ignored: expected JSON with a state, got {message.data[:80]!r}",
                throttle_duration_sec=1.0,
            )
            return
        self._controller.followed.say(state.upper() == State.ACTIVE.upper(), reason)
        self._robot_fault = f"robot node: {reason}" if state.upper() == State.FAULT.upper() else ""
        if self._robot_fault:
            self._controller.fault(self._robot_fault, self._now_ns())
