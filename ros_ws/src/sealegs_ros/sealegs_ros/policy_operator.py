"""The operator's side of the policy node: services in; latched status, /diagnostics and log lines out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from sealegs_contract import topics
from sealegs_contract.errors import ControllerError
from sealegs_deploy.controller import Controller
from sealegs_deploy.states import State, Transition
from sealegs_deploy.timing import RECENT, flat
from sealegs_ros import conversions, qos
from sealegs_ros.conversions import ERROR, OK, WARN

LEVELS = {State.ACTIVE: OK, State.DISARMED: OK, State.UNCONFIGURED: WARN, State.HOLD: WARN, State.FAULT: ERROR}


class OperatorInterface:
    """~/arm, ~/disarm, ~/resume, ~/reset_fault (Trigger), ~/e_stop (SetBool), ~/status (latched JSON), /diagnostics.

    `may_arm` raises ControllerError while the node itself is not ready. `now_ns` is robot time.
    """

    def __init__(
        self, node: Node, controller: Controller, may_arm: Callable[[], None], now_ns: Callable[[], int]
    ) -> None:
        self._node, self._controller, self._may_arm, self._now_ns = node, controller, may_arm, now_ns
        self._status = node.create_publisher(String, "~/status", qos.LATCHED)
        self._diagnostics = node.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, qos.STREAM)
        actions = {
            "arm": self._arm,
            "disarm": controller.disarm,
            "resume": controller.resume,
            "reset_fault": controller.reset_fault,
        }
        for name, action in actions.items():
            node.create_service(Trigger, f"~/{name}", self._service(action))
        node.create_service(SetBool, "~/e_stop", self._on_e_stop)
        controller.on_transition = self._on_transition
        self._publish_status()

    def refuse(self, reason: str) -> None:
        """The policy cannot be configured: say why in the log, in the status, and to whoever tries to arm."""
        self._controller.reason = reason
        self._node.get_logger().error(reason)
        self._publish_status()

    def diagnose(self, counts: Mapping[str, int]) -> None:
        """Publish state, timing over the newest ticks, and the node's own counts."""
        controller, name = self._controller, self._node.get_fully_qualified_name()
        values = controller.status() | flat(controller.timing(RECENT)) | dict(counts)
        level, text = LEVELS[controller.state], str(controller.state)
        status = conversions.diagnostic_status(name, level, text, values, controller.robot.name)
        self._diagnostics.publish(conversions.diagnostic_array(self._now_ns(), [status]))

    def _arm(self, now_ns: int) -> None:
        self._may_arm()
        self._controller.arm(now_ns)

    def _service(self, action: Callable[[int], None]) -> Callable[[Any, Any], Any]:
        def on_request(_: Any, response: Any) -> Any:
            try:
                action(self._now_ns())
                response.success, response.message = True, f"{self._controller.state}: {self._controller.reason}"
            except ControllerError as error:
                response.success, response.message = False, str(error)
            return response

        return on_request

    def _on_e_stop(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._controller.e_stop(bool(request.data), self._now_ns())
        self._publish_status()
        response.success, response.message = True, f"{self._controller.state}: {self._controller.reason}"
        return response

    def _on_transition(self, transition: Transition) -> None:
        text = f"{transition.before} -> {transition.after}: {transition.reason}"
        logger = self._node.get_logger()
        # One call site per severity: rclpy refuses a site whose severity changes.
        if transition.after in {State.HOLD, State.FAULT}:
            logger.warning(text)
        else:
            logger.info(text)
        self._publish_status()

    def _publish_status(self) -> None:
        self._status.publish(String(data=json.dumps(self._controller.status())))
