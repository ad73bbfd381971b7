"""Recording off the ROS thread: a bounded queue, one thread that owns the bag, and a count of everything lost."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sealegs_contract import topics
from sealegs_contract.episode import Outcome
from sealegs_contract.errors import BagError
from sealegs_contract.robot import RobotProfile
from sealegs_ros.bag import BagWriter
from sealegs_ros.cdr import trim
from sealegs_ros.definitions import message_class

# Types with sequences of doubles: foreign publishers leave them empty, and rclpy then appends bytes (see cdr.py).
TRIMMED = frozenset({"sensor_msgs/msg/JointState", "trajectory_msgs/msg/JointTrajectory"})
QUEUE_MESSAGES = 4000
IDLE_S = 0.02


@dataclass(frozen=True, slots=True)
class RawMessage:
    """One message as it came: serialised CDR bytes and ROS times in ns."""

    topic: str
    type_name: str
    data: bytes
    log_ns: int
    publish_ns: int


@dataclass(frozen=True, slots=True)
class _Start:
    make_bag: Callable[[], BagWriter]


@dataclass(frozen=True, slots=True)
class _Stop:
    outcome: Outcome | None  # None: discard
    drops: dict[str, int]


class EpisodeWriter:
    """Hands messages to a thread that writes bags. No method waits for the disk, apart from `shutdown`.

    Methods belong to one (ROS) thread. `alarm` holds the last disk error until the next episode starts; `finished`
    lists bags closed with their metadata; `skipped` counts messages that came after a disk error.
    """

    def __init__(self, capacity: int = QUEUE_MESSAGES) -> None:
        self.recording = False
        self.drops: Counter[str] = Counter()
        self.alarm: BagError | None = None
        self.written = 0
        self.skipped = 0
        self.finished: list[Path] = []
        self._capacity = capacity
        self._queue: queue.SimpleQueue[RawMessage | _Start | _Stop | None] = queue.SimpleQueue()
        self._bag: BagWriter | None = None
        self._crash: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="bag-writer", daemon=True)
        self._thread.start()

    def start(self, make_bag: Callable[[], BagWriter]) -> None:
        """Begin an episode; `make_bag` runs in the writer's thread."""
        if self.recording:
            raise BagError("an episode is being recorded: stop or discard it first")
        self.recording = True
        self.drops = Counter()
        self.alarm = None
        self._queue.put(_Start(make_bag))

    def push(self, message: RawMessage) -> bool:
        """Queue a message of the running episode; False, and counted, when the queue is full."""
        if not self.recording:
            return False
        # Only messages are bounded: a start or stop must always get through.
        if self._queue.qsize() >= self._capacity:
            self.count_drop(message.topic, "queue")
            return False
        self._queue.put(message)
        return True

    def count_drop(self, topic: str, reason: str, count: int = 1) -> None:
        """Count messages that the bag will lack; `reason` is queue, lost (by the middleware) or gap (in the stamps)."""
        if self.recording and count > 0:
            self.drops[f"{topic} {reason}"] += count

    def stop(self, outcome: Outcome | None) -> None:
        """End the episode with its outcome; None throws its bag away."""
        if not self.recording:
            raise BagError("no episode is being recorded: start one first")
        self.recording = False
        self._queue.put(_Stop(outcome, dict(self.drops)))

    @property
    def depth(self) -> int:
        """Messages waiting for the disk."""
        return self._queue.qsize()

    def shutdown(self) -> None:
        """Finish a running episode as aborted, write what is queued, and end the thread."""
        if self.recording:
            self.stop(Outcome.ABORTED)
        self._queue.put(None)
        self._thread.join()

    def check(self) -> None:
        """Raise what ended the writer's thread, if anything did: a fault of ours, not the disk's."""
        if self._crash is not None:
            raise self._crash

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:
            self._crash = error

    def _serve(self) -> None:
        while True:
            try:
                item = self._queue.get(timeout=IDLE_S)
            except queue.Empty:
                self._guarded(lambda bag: bag.flush_if_due())
                continue
            match item:
                case None:
                    return
                case _Start():
                    self._open(item.make_bag)
                case _Stop():
                    self._finish(item)
                case RawMessage():
                    self._take(item)

    def _guarded(self, action: Callable[[BagWriter], None]) -> None:
        """Run `action` on the open bag; a disk error becomes the alarm, and the rest of the episode is skipped."""
        if self._bag is None or self._bag.failed is not None:
            return
        try:
            action(self._bag)
        except BagError as error:
            self.alarm = error

    def _take(self, message: RawMessage) -> None:
        if self._bag is None or self._bag.failed is not None:
            self.skipped += 1
        self._guarded(lambda bag: self._write(bag, message))

    def _open(self, make_bag: Callable[[], BagWriter]) -> None:
        self.written = self.skipped = 0
        try:
            self._bag = make_bag()
        except BagError as error:
            self.alarm = error

    def _write(self, bag: BagWriter, message: RawMessage) -> None:
        data = message.data
        if message.type_name in TRIMMED:
            data = trim(data, message_class(message.type_name))
        bag.write_raw(message.topic, message.type_name, data, message.log_ns, message.publish_ns)
        self.written += 1

    def _finish(self, stop: _Stop) -> None:
        bag, self._bag = self._bag, None
        if bag is None:
            return
        if stop.outcome is None:
            bag.discard()
            return
        bag.drops.update(stop.drops)
        try:
            bag.close(stop.outcome)
        except BagError as error:
            self.alarm = error
        if bag.failed is None:
            self.finished.append(bag.folder)


class GapCounter:
    """Counts samples missing from streams of known period, by their stamps.

    A stamp that jumps back or ahead by `JUMP_PERIODS` or more starts anew: that is a reset, not a loss.
    """

    JUMP_PERIODS = 250

    def __init__(self, period_ns: dict[str, int]) -> None:
        self._period_ns = period_ns
        self._last: dict[str, int] = {}

    def missing(self, topic: str, stamp_ns: int) -> int:
        """Samples missing on `topic` between the last stamp and this one; 0 for streams without a period."""
        period = self._period_ns.get(topic)
        if period is None:
            return 0
        last = self._last.get(topic)
        self._last[topic] = stamp_ns
        if last is None or not 0 < stamp_ns - last < self.JUMP_PERIODS * period:
            return 0
        return max(0, round((stamp_ns - last) / period) - 1)

    def clear(self) -> None:
        """Forget the last stamps, as at the start of an episode."""
        self._last.clear()


def recorded_streams(robot: RobotProfile, resolve: Callable[[str], str]) -> dict[str, tuple[str, int]]:
    """Every topic of a robot, resolved, with its type and expected period in ns (0: not periodic)."""
    tick = robot.control_period_ns
    streams = {
        topics.CLOCK: ("rosgraph_msgs/msg/Clock", 0),
        topics.JOINT_STATES: ("sensor_msgs/msg/JointState", tick),
        topics.JOINT_TRAJECTORY: ("trajectory_msgs/msg/JointTrajectory", 0),
        topics.TASK: ("std_msgs/msg/String", 0),
        topics.DIAGNOSTICS: ("diagnostic_msgs/msg/DiagnosticArray", 0),
    }
    streams |= {topics.object_pose(name): ("geometry_msgs/msg/PoseStamped", tick) for name in robot.objects}
    for camera in robot.cameras:
        period = tick * max(1, round(robot.control_rate_hz / camera.rate_hz))
        streams[topics.camera_image(camera.name)] = ("sensor_msgs/msg/CompressedImage", period)
        streams[topics.camera_info(camera.name)] = ("sensor_msgs/msg/CameraInfo", period)
    return {resolve(topic): stream for topic, stream in streams.items()}
