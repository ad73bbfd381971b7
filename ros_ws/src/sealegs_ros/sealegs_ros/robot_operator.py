"""The operator's side of the robot node: emergency stop and resets in; latched status, /diagnostics and log out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.subscription import Subscription
from std_msgs.msg import String
from std_srvs.srv import Trigger

from sealegs_contract import topics
from sealegs_contract.errors import SealegsError
from sealegs_ros import conversions, qos, scheduling
from sealegs_ros.conversions import ERROR, OK, WARN
from sealegs_ros.e_stop import EmergencyStop
from sealegs_ros.robot_loop import RobotLoop
from sealegs_ros.robot_state import RobotState


class RobotOperator:
    """~/reset_fault, ~/reset (Trigger), and the emergency stop; ~/status (latched JSON), /diagnostics.

    `new_episode` starts one and says which; it raises BackendError where it cannot. `commands` hears all commanders.
    """

    def __init__(self, node: Node, loop: RobotLoop, commands: Subscription, new_episode: Callable[[], str]) -> None:
        self._node, self._loop, self._latch, self._commands = node, loop, loop.latch, commands
        self.malformed = 0
        self._status = node.create_publisher(String, "~/status", qos.LATCHED)
        self._diagnostics = node.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, qos.STREAM)
        node.create_service(Trigger, "~/reset_fault", self._service(self._reset_fault))
        node.create_service(Trigger, "~/reset", self._service(new_episode))
        self._e_stop = EmergencyStop(node, self._press, lambda: f"{self._latch.state}: {self._latch.reason}")
        self._publish_status()

    def count_commanders(self) -> None:
        """Look how many could command now: those that the middleware has matched with us, under whatever name."""
        self._latch.count(self._commands.get_publisher_count())

    def tell(self) -> None:
        """Log and publish what has changed, if anything has."""
        if not self._latch.changes:
            return
        logger = self._node.get_logger()
        for text in self._latch.changes:
            # One call site per severity: rclpy refuses a site whose severity changes.
            if self._latch.state is RobotState.ACTIVE:
                logger.info(text)
            else:
                logger.warning(text)
        self._latch.changes.clear()
        self._publish_status()
        self.diagnose()

    def diagnose(self) -> None:
        """Publish state, timing and counters."""
        loop, latch = self._loop, self._latch
        counts = {"commanders": latch.commanders, "commands_malformed": self.malformed}
        level, text = self._summary()
        name = self._node.get_fully_qualified_name()
        values = {**loop.texts(), **counts, **loop.backend.health(), **scheduling.texts()}
        status = conversions.diagnostic_status(name, level, text, values, loop.robot.name)
        self._diagnostics.publish(conversions.diagnostic_array(loop.backend.now_ns(), [status]))

    def _summary(self) -> tuple[bytes, str]:
        latch = self._latch
        if latch.state is RobotState.FAULT:
            return ERROR, f"FAULT: {latch.reason}"
        text = "following commands" if latch.state is RobotState.ACTIVE else "holding"
        if latch.commanders > 1:
            what = "holding until only one does" if latch.contested else "the newest command is followed"
            return ERROR, f"{latch.commanders} publishers of {topics.JOINT_TRAJECTORY}: {what}"
        refused = "some commands were refused" if self._loop.gate.refused or self.malformed else ""
        warnings = [warning for warning in (self._e_stop.shared(), refused) if warning]
        return (WARN, "; ".join([text, *warnings])) if warnings else (OK, text)

    def _publish_status(self) -> None:
        self._status.publish(String(data=json.dumps(self._latch.status())))

    def _reset_fault(self) -> str:
        self.count_commanders()
        self._loop.reset_fault(time.monotonic_ns())
        return f"{self._latch.state}: {self._latch.reason}"

    def _service(self, action: Callable[[], str]) -> Callable[[Any, Any], Any]:
        def on_request(_: Any, response: Any) -> Any:
            try:
                response.success, response.message = True, action()
            except SealegsError as error:
                response.success, response.message = False, str(error)
            self.tell()
            return response

        return on_request

    def _press(self, pressed: bool, source: str) -> None:
        self._latch.e_stop(pressed, source)
        self.tell()
