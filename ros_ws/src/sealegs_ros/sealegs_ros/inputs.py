"""Inputs: a node's subscriptions to what policies observe, as samples."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, JointState

from sealegs_contract import topics
from sealegs_contract.errors import SealegsError
from sealegs_contract.sample import Sample
from sealegs_contract.spec import ObservationSpec
from sealegs_ros import conversions, qos


class Inputs:
    """`take(sample, arrival in ns of the host's clock)` gets each one; `malformed` counts messages that hold none."""

    def __init__(self, node: Node, take: Callable[[Sample, int], None]) -> None:
        self._node, self._take = node, take
        self._subscriptions: dict[str, Any] = {}
        self.malformed = 0

    def listen(self, observation: ObservationSpec) -> None:
        """Also to all that `observation` needs."""
        wanted: list[tuple[type, str, Any]] = [(JointState, topics.JOINT_STATES, qos.STREAM)]
        objects = sorted({field.object_name for field in observation.fields if field.object_name})
        wanted += [(PoseStamped, topics.object_pose(name), qos.STREAM) for name in objects]
        wanted += [(CompressedImage, topics.camera_image(image.camera), qos.IMAGE) for image in observation.images]
        for kind, topic, quality in wanted:
            if topic not in self._subscriptions:
                subscription = self._node.create_subscription(kind, topic, self._listener(topic), quality)
                self._subscriptions[topic] = subscription

    def close(self) -> None:
        """Listen to nothing any more."""
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def _listener(self, topic: str) -> Callable[[Any], None]:
        def on_message(message: Any) -> None:
            received_ns = time.perf_counter_ns()
            try:
                sample = conversions.from_message(topic, message)
            except SealegsError as error:
                self.malformed += 1
                self._node.get_logger().warning(f"message refused: {error}", throttle_duration_sec=1.0)
                return
            self._take(sample, received_ns)

        return on_message
