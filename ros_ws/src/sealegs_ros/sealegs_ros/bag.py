"""BagWriter: one episode as a rosbag2 bag in MCAP, for the recorder node and for `sealegs collect`.

FOLDER/NAME_0.mcap (profile ros2, zstd chunks) + FOLDER/metadata.yaml, with NAME the folder's name. Topics are absolute
(`/joint_states`, or `/NAMESPACE/joint_states`). Needs no DDS and no rclpy.init.

Chunks are closed and handed to the operating system every `flush_ms`, always at a record boundary: a killed writer
loses at most that much, and leaves no metadata.yaml. The file gets its name when it says what it is: whatever has it
can be read. What close() returned from was also synced to the disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import time
from array import array
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mcap.writer import CompressionType, Writer
from std_msgs.msg import String

from sealegs_contract import topics
from sealegs_contract.episode import EpisodeInfo, Outcome
from sealegs_contract.errors import BagError
from sealegs_contract.robot import RobotProfile, canonical_json
from sealegs_contract.sample import ImageSample, Sample
from sealegs_ros import conversions, definitions
from sealegs_ros.cdr import serialize_exact
from sealegs_ros.qos import offered_qos
from sealegs_ros.rosbag2 import TopicCount, bag_metadata, qos_text, sync_folder, write_metadata

FLUSH_MS = 30.0
CHUNK_BYTES = 1 << 20
METADATA_RECORD = "sealegs"


class _AppendOnlyFile:
    """Collects bytes and appends them to a file on `flush`; a failed flush leaves the file as the last one left it."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._pending = bytearray()
        self._written = 0

    def write(self, data: bytes) -> int:
        self._pending += data
        return len(data)

    def tell(self) -> int:
        return self._written + len(self._pending)

    def flush(self) -> None:
        done = 0
        try:
            while done < len(self._pending):
                done += os.write(self._handle, memoryview(self._pending)[done:])
        except OSError:
            # On a full disk: cut the half record, so that the prefix ends where a reader expects it.
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, self._written)
                os.lseek(self._handle, self._written, os.SEEK_SET)
            raise
        self._written += done
        self._pending = bytearray()

    def sync_and_close(self, sync: bool) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            try:
                if sync:
                    os.fsync(handle)
            finally:
                os.close(handle)


class BagWriter:
    """Writes one episode. Belongs to one thread. Log times are in ns: simulated time for `collect`, ROS time live.

    Raises BagError when the folder exists or the disk refuses; after that the writer has `failed` and takes no more,
    and what was flushed before stays readable.
    """

    def __init__(
        self,
        folder: Path | str,
        robot: RobotProfile,
        info: EpisodeInfo,
        namespace: str = "",
        flush_ms: float = FLUSH_MS,
    ) -> None:
        self.folder = Path(folder)
        self.robot = robot
        self.info = info
        self.drops: Counter[str] = Counter()
        self.failed: BagError | None = None
        self.closed = False
        self._prefix = f"/{namespace.strip('/')}/" if namespace.strip("/") else "/"
        self._flush_ns = round(flush_ms * 1e6)
        self._flushed_at = time.monotonic_ns()
        self._dirty = False
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, tuple[int, TopicCount]] = {}
        self._span: tuple[int, int] | None = None
        self._infos: dict[str, bytes] = {}
        self.file_name = f"{self.folder.name}_0.mcap"
        try:
            self.folder.mkdir(parents=True)
            self._begin(self.folder / f".{self.file_name}.partial")
        except OSError as error:
            raise BagError(f"cannot start a bag at {self.folder}: {error.strerror or error}") from error

    def _begin(self, path: Path) -> None:
        """Write the header to `path`, and give the file its name."""
        self._file = _AppendOnlyFile(path)
        try:
            # The library types its output as IO; write, tell and flush are all that it uses.
            stream: Any = self._file
            self._writer = Writer(stream, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)
            self._writer.start(profile="ros2", library="sealegs")
            self._writer.add_metadata(METADATA_RECORD, self._metadata())
            self._writer.flush()
            path.rename(self.folder / self.file_name)
        except OSError:
            self._file.sync_and_close(sync=False)
            raise

    def write(self, sample: Sample, log_time_ns: int) -> None:
        """Write a sample under its topic; an image brings the CameraInfo of the profile's camera with it."""
        self.write_message(conversions.topic_of(sample), conversions.to_message(sample), log_time_ns, sample.stamp_ns)
        if isinstance(sample, ImageSample):
            data = self._camera_info(sample.camera, sample.stamp_ns)
            topic = topics.camera_info(sample.camera)
            self.write_raw(topic, "sensor_msgs/msg/CameraInfo", data, log_time_ns, sample.stamp_ns)

    def write_task(self, log_time_ns: int) -> None:
        """Write the episode's task sentence, as the robot node latches it."""
        self.write_message(topics.TASK, String(data=self.info.task_text), log_time_ns)

    def write_message(self, topic: str, message: Any, log_time_ns: int, publish_time_ns: int | None = None) -> None:
        """Write any ROS message; a relative `topic` comes under the bag's namespace."""
        type_name = definitions.type_name_of(type(message))
        self.write_raw(topic, type_name, serialize_exact(message), log_time_ns, publish_time_ns)

    def write_raw(
        self, topic: str, type_name: str, data: bytes, log_time_ns: int, publish_time_ns: int | None = None
    ) -> None:
        """Write serialised CDR bytes; flushes when the last flush is `flush_ms` ago."""
        if self.failed is not None or self.closed:
            raise self.failed or BagError(f"the bag {self.folder} is closed")
        channel, topic_count = self._channel(topic if topic.startswith("/") else self._prefix + topic, type_name)
        publish_time_ns = log_time_ns if publish_time_ns is None else publish_time_ns
        self._writer.add_message(channel, log_time_ns, data, publish_time_ns, sequence=topic_count.count)
        topic_count.count += 1
        first, last = self._span or (log_time_ns, log_time_ns)
        self._span = min(first, log_time_ns), max(last, log_time_ns)
        self._dirty = True
        self.flush_if_due()

    def flush_if_due(self) -> None:
        """Flush if `flush_ms` have passed; call it also while nothing arrives."""
        if self._dirty and time.monotonic_ns() - self._flushed_at >= self._flush_ns:
            self.flush()

    def flush(self) -> None:
        """Close the chunk and hand it to the operating system: it survives kill -9 from here on."""
        try:
            self._writer.flush()
        except OSError as error:
            raise self._fail(error) from error
        self._flushed_at = time.monotonic_ns()
        self._dirty = False

    def close(self, outcome: Outcome | None = None) -> None:
        """Finish the bag with its outcome and write metadata.yaml, atomically and last. Safe to call twice."""
        if self.closed:
            return
        self.closed = True
        if self.failed is not None:
            self._file.sync_and_close(sync=False)
            return
        if outcome is not None:
            self.info = self.info.model_copy(update={"outcome": outcome})
        try:
            self._writer.add_metadata(METADATA_RECORD, self._metadata())
            self._writer.finish()
            self._file.flush()
            self._file.sync_and_close(sync=True)
            first, last = self._span or (0, 0)
            counts = [count for _, count in self._channels.values()]
            write_metadata(self.folder, bag_metadata(self.file_name, counts, first, last, self._metadata()))
            sync_folder(self.folder.parent)
        except OSError as error:
            self._file.sync_and_close(sync=False)
            raise self._fail(error) from error

    def discard(self) -> None:
        """Close and delete the bag."""
        self.closed = True
        self._file.sync_and_close(sync=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(Outcome.ABORTED if kind is not None else None)

    def _fail(self, error: OSError) -> BagError:
        self.failed = BagError(f"cannot write the bag {self.folder}: {error.strerror or error}; its prefix is kept")
        return self.failed

    def _metadata(self) -> dict[str, str]:
        return {
            "episode": canonical_json(self.info.model_dump(mode="json")),
            "profile": canonical_json(self.robot.model_dump(mode="json")),
            "drops": json.dumps(dict(sorted(self.drops.items()))),
        }

    def _channel(self, topic: str, type_name: str) -> tuple[int, TopicCount]:
        held = self._channels.get(topic)
        if held is not None:
            if held[1].type_name != type_name:
                raise BagError(f"{topic}: the bag holds {held[1].type_name}, but a {type_name} came")
            return held
        if type_name not in self._schemas:
            text = definitions.message_definition(type_name).encode()
            self._schemas[type_name] = self._writer.register_schema(type_name, "ros2msg", text)
        qos = offered_qos(topic)
        extras = {"offered_qos_profiles": qos_text(qos), "topic_type_hash": definitions.type_hash(type_name)}
        channel = self._writer.register_channel(topic, "cdr", self._schemas[type_name], extras)
        self._channels[topic] = channel, TopicCount(topic, type_name, qos)
        return self._channels[topic]

    def _camera_info(self, camera: str, stamp_ns: int) -> bytes:
        """Serialised CameraInfo: only its stamp changes, which follows the encapsulation header."""
        if camera not in self._infos:
            self._infos[camera] = serialize_exact(conversions.camera_info(self.robot.camera(camera), 0))
        data = array("B", self._infos[camera])
        struct.pack_into("<iI", data, 4, *divmod(stamp_ns, 1_000_000_000))
        return data.tobytes()
