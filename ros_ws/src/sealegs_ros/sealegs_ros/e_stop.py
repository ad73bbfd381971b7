"""The emergency stop's buttons: one a topic, and one that is the service. Pressed while any of them says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy._rclpy_pybind11 import RCLError
from rclpy.node import Node
from std_msgs.msg import Bool
from std_srvs.srv import SetBool

from sealegs_contract import topics
from sealegs_contract.errors import BackendError
from sealegs_ros import qos
from sealegs_ros.runtime import texts_parameter

SERVICE = "service"


class EmergencyStop:
    """~/e_stop (SetBool), and a topic (Bool) for each of the parameter `e_stop_topics`.

    `press(pressed, source)` hears them all, `topic NAME` or SERVICE as the source; `answer()` is what the service says.
    """

    def __init__(self, node: Node, press: Callable[[bool, str], None], answer: Callable[[], str]) -> None:
        names = texts_parameter(
            node, "e_stop_topics", [topics.E_STOP], "topics of Bool, each an emergency stop's button"
        )
        self._press, self._answer = press, answer
        try:
            if not names or not all(names) or len(set(map(node.resolve_topic_name, names))) != len(names):
                raise BackendError(f"expected different topics, got {names}")
            self._buttons = {name: self._listen(node, name) for name in names}
        except (BackendError, RCLError) as error:
            text = " ".join(str(error).split())
            raise BackendError(f"parameter e_stop_topics of {node.get_name()}: {text}") from error
        node.create_service(SetBool, "~/e_stop", self._on_service)

    def shared(self) -> str:
        """Which topics have several publishers, of whom one releases what another pressed; empty where none has."""
        counts = {name: button.get_publisher_count() for name, button in self._buttons.items()}
        shared = [f"{count} publishers of {name}" for name, count in counts.items() if count > 1]
        return f"{', '.join(shared)}: one releases the other's emergency stop" if shared else ""

    def _listen(self, node: Node, name: str) -> Any:
        def on_message(message: Bool) -> None:
            self._press(bool(message.data), f"topic {name}")

        # The first hears a press from before this node began, the second also who does not latch, the last whoever
        # offers no reliability. Hearing a press thrice is no harm.
        for profile in (qos.E_STOP, qos.STREAM):
            node.create_subscription(Bool, name, on_message, profile)
        return node.create_subscription(Bool, name, on_message, qos.E_STOP_ANY)

    def _on_service(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._press(bool(request.data), SERVICE)
        response.success, response.message = True, self._answer()
        return response
