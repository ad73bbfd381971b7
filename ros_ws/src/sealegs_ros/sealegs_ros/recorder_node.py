"""recorder_node: writes one bag per episode.

Services: ~/start_episode, ~/stop_episode (data: success), ~/discard_episode.

No callback waits for the disk: a service answers at once with the bag's folder, which is finished when its
metadata.yaml is there (and when ~/finished, latched, names it). Everything lost is counted, on /diagnostics and in the
bag. A disk error is an alarm; what was written before it stays readable.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy
from rclpy.serialization import deserialize_message
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from sealegs_contract import topics
from sealegs_contract.episode import EpisodeInfo, Outcome
from sealegs_contract.errors import BagError
from sealegs_contract.robot import load_robot
from sealegs_ros import conversions, qos
from sealegs_ros.bag import BagWriter
from sealegs_ros.conversions import ERROR, OK, WARN
from sealegs_ros.definitions import message_class
from sealegs_ros.recording import EpisodeWriter, GapCounter, RawMessage, recorded_streams
from sealegs_ros.runtime import integer_parameter, run_node, steady_timer, text_parameter

HEADERLESS = frozenset({"std_msgs/msg/String", "rosgraph_msgs/msg/Clock"})
# A recording begins with the newest message of these, so that its first rows have what a live policy would see. How
# old an image may be is the reader's business: its stamp says it.
CARRIED_IN = frozenset({"sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo"})


class RecorderNode(Node):
    """Parameters: robot, bag_dir; read at each start: task, operator, policy, seed (negative: none), origin."""

    def __init__(self) -> None:
        super().__init__("recorder_node")
        self._robot = load_robot(text_parameter(self, "robot", "so101", "shipped robot profile, or a path to one"))
        self._bag_dir = Path(text_parameter(self, "bag_dir", "bags", "folder that receives one bag per episode"))
        text_parameter(self, "task", "drawer", "name of the task, for the bag's metadata", changeable=True)
        text_parameter(self, "operator", "", "who or what drives, for the bag's metadata", changeable=True)
        text_parameter(self, "policy", "", "policy that drives, for the bag's metadata", changeable=True)
        text_parameter(self, "origin", "", "sim or real; empty: sim when use_sim_time is set", changeable=True)
        integer_parameter(
            self, "seed", -1, "seed of the episode, for the bag's metadata; negative: none", changeable=True
        )
        _writable(self._bag_dir)
        self._writer = EpisodeWriter()
        self._announced = 0
        self._episodes = 0
        self._folder = self._bag_dir
        self._newest: dict[str, RawMessage] = {}
        streams = recorded_streams(self._robot, self.resolve_topic_name)
        self._gaps = GapCounter({topic: period for topic, (_, period) in streams.items() if period})
        for topic, (type_name, _) in streams.items():
            self._subscribe(topic, type_name)
        self._finished = self.create_publisher(String, "~/finished", qos.LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, qos.STREAM)
        self.create_service(Trigger, "~/start_episode", self._on_start)
        self.create_service(SetBool, "~/stop_episode", self._on_stop)
        self.create_service(Trigger, "~/discard_episode", self._on_discard)
        self._announce_timer = steady_timer(self, 0.05, self._announce)
        self._diagnostics_timer = steady_timer(self, 1.0, self._diagnose)
        self.get_logger().info(f"ready to record {self._robot.name} into {self._bag_dir.resolve()}")

    def close(self) -> None:
        """Finish a running episode as aborted."""
        self._writer.shutdown()

    def _subscribe(self, topic: str, type_name: str) -> None:
        profile = qos.RECORD_LATCHED if topic.endswith(topics.TASK) else qos.RECORD
        lost = SubscriptionEventCallbacks(
            message_lost=lambda event: self._writer.count_drop(topic, "lost", event.total_count_change)
        )
        latched = profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        callback = partial(self._on_message, topic, type_name, latched)
        # Raw: nothing is decoded on this thread.
        self.create_subscription(message_class(type_name), topic, callback, profile, raw=True, event_callbacks=lost)

    def _on_message(self, topic: str, type_name: str, latched: bool, data: bytes) -> None:
        now_ns = self.get_clock().now().nanoseconds
        stamp_ns = now_ns if type_name in HEADERLESS else _header_stamp_ns(data)
        message = RawMessage(topic, type_name, data, now_ns, stamp_ns)
        if latched or type_name in CARRIED_IN:
            self._newest[topic] = message
        missing = self._gaps.missing(topic, stamp_ns)
        self._writer.count_drop(topic, "gap", missing)
        self._writer.push(message)

    def _on_start(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return _answer(response, self._start)

    def _on_stop(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        return _answer(response, lambda: self._stop(Outcome.SUCCESS if request.data else Outcome.FAILURE))

    def _on_discard(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return _answer(response, lambda: self._stop(None))

    def _start(self) -> str:
        info = self._episode_info()
        folder = self._bag_dir / f"{time.strftime('%Y%m%d-%H%M%S')}_{info.task}_{self._episodes:04d}"
        self._writer.start(partial(BagWriter, folder, self._robot, info))
        self._folder = folder
        self._episodes += 1
        self._gaps.clear()
        now_ns = self.get_clock().now().nanoseconds
        for message in self._newest.values():
            self._writer.push(RawMessage(message.topic, message.type_name, message.data, now_ns, message.publish_ns))
        return str(self._folder)

    def _stop(self, outcome: Outcome | None) -> str:
        self._writer.stop(outcome)
        if self._writer.alarm is not None:
            raise self._writer.alarm
        return str(self._folder)

    def _episode_info(self) -> EpisodeInfo:
        def text(name: str) -> str:
            return str(self.get_parameter(name).value)

        simulated = bool(self.get_parameter("use_sim_time").value)
        seed = int(self.get_parameter("seed").value)
        origin: Any = text("origin") or ("sim" if simulated else "real")
        if origin not in {"sim", "real"}:
            raise BagError(f"parameter origin must be sim or real, got {origin!r}")
        return EpisodeInfo(
            task=text("task"),
            task_text=self._latched_task() or text("task"),
            operator=text("operator"),
            policy=text("policy"),
            origin=origin,
            robot=self._robot.name,
            profile_digest=self._robot.digest,
            seed=seed if seed >= 0 else None,
        )

    def _latched_task(self) -> str:
        message = self._newest.get(self.resolve_topic_name(topics.TASK))
        return str(deserialize_message(message.data, String).data) if message is not None else ""

    def _announce(self) -> None:
        self._writer.check()
        for folder in self._writer.finished[self._announced :]:
            self._finished.publish(String(data=str(folder)))
            self._announced += 1

    def _diagnose(self) -> None:
        writer = self._writer
        level, text = OK, "recording" if writer.recording else "idle"
        if writer.drops:
            level, text = WARN, f"{text}; {sum(writer.drops.values())} messages lost"
        if writer.alarm is not None:
            level, text = ERROR, str(writer.alarm)
        values: dict[str, object] = {
            "recording": writer.recording,
            "episodes": self._episodes,
            "finished": len(writer.finished),
            "messages": writer.written,
            "skipped": writer.skipped,
            "queue": writer.depth,
            **{f"drops {name}": count for name, count in writer.drops.items()},
        }
        status = conversions.diagnostic_status(self.get_fully_qualified_name(), level, text, values, self._robot.name)
        self._diagnostics.publish(conversions.diagnostic_array(self.get_clock().now().nanoseconds, [status]))


def _answer(response: Any, action: Callable[[], str]) -> Any:
    try:
        response.success, response.message = True, action()
    except BagError as error:
        response.success, response.message = False, str(error)
    return response


def _header_stamp_ns(data: bytes) -> int:
    """Stamp of a serialised message that begins with a std_msgs/Header, in ns."""
    sec, nanosec = struct.unpack_from("<iI", data, 4)
    return int(sec) * 1_000_000_000 + int(nanosec)


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BagError(f"cannot make the folder for bags {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise BagError(f"cannot write bags into {folder}: permission denied; give another bag_dir")


def main() -> int:
    """Console script and `python -m sealegs_ros.recorder_node`."""
    return run_node(RecorderNode)


if __name__ == "__main__":
    sys.exit(main())
