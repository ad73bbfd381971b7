"""A bag: a folder of MCAP files as rosbag2 writes it, or one .mcap file. Read without ROS."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcap.exceptions import McapError
from mcap_ros2.decoder import DecoderFactory
from pydantic import ValidationError

from sealegs_contract.episode import EpisodeInfo
from sealegs_contract.errors import BagError, SpecError
from sealegs_contract.robot import RobotProfile, parse_robot
from sealegs_contract.sample import Sample
from sealegs_learning.data.cdr import ENCAPSULATION, fast_decoder
from sealegs_learning.data.mcap_file import McapFile, RawMessage
from sealegs_learning.data.messages import expected_type, stream_of_topic, to_sample

METADATA_NAME = "sealegs"
_UNDECODABLE = (SpecError, McapError, ValueError, IndexError, EOFError, struct.error, OverflowError, MemoryError)


@dataclass(frozen=True, slots=True)
class BagMessage:
    """A decoded message of one of our streams. `sample` is None for texts (task, episode markers)."""

    stream: str
    log_time_ns: int
    sample: Sample | None
    text: str = ""


@dataclass(slots=True)
class BagProblems:
    """What could not be read. Nothing is dropped without being counted here."""

    damage: list[str] = field(default_factory=list)
    undecodable: Counter[str] = field(default_factory=Counter)
    first_error: dict[str, str] = field(default_factory=dict)


class Bag:
    """Raises BagError, in one line, for what is missing, foreign or no bag at all; damage inside is only reported."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = bag_files(path)
        self.problems = BagProblems()
        # A recorder that was killed while it opened the next file of a split bag leaves an empty one.
        filled = tuple(file for file in self.files if file.stat().st_size)
        if filled:
            self.problems.damage += [f"{file.name} is empty" for file in self.files if file not in filled]
            self.files = filled
        self._fast: dict[str, Callable[[bytes], Sample] | None] = {}
        self._topics: Counter[str] | None = None
        self._decoders: dict[tuple[str, bytes], Callable[[bytes], Any] | None] = {}

    def metadata(self) -> tuple[EpisodeInfo | None, RobotProfile | None]:
        """Episode and robot from the metadata record `sealegs`; None where the bag has none (a foreign bag)."""
        record: Mapping[str, str] = {}
        for path in self.files:
            record = McapFile(path).read_metadata().get(METADATA_NAME, record)
        try:
            info = EpisodeInfo.model_validate(json.loads(record["episode"])) if "episode" in record else None
            profile = parse_robot(json.loads(record["profile"]), str(self.path)) if "profile" in record else None
        except ValueError as error:  # of JSON or of pydantic
            reason = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise BagError(f"{self.path}: its metadata record '{METADATA_NAME}' is malformed: {reason}") from error
        return info, profile

    def raw_messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Undecoded messages of all files in order, up to the first damage of each."""
        for path in self.files:
            file = McapFile(path)
            yield from file.messages(topics)
            if file.damage:
                self.problems.damage.append(file.damage)

    def messages(
        self,
        streams: Collection[str] | None = None,
        namespace: str | None = None,
        remap: Mapping[str, str] | None = None,
    ) -> Iterator[BagMessage]:
        """Decoded messages of our streams, of `streams` or of all.

        namespace: which robot, where several share a bag. remap: foreign topic -> our stream.
        Raises BagError when a topic has a type of its own, or when two namespaces carry the same stream.
        """
        chosen: dict[str, str] = {}
        streams_by_topic: dict[str, str | None] = {}
        for raw in self.raw_messages():
            if raw.topic not in streams_by_topic:
                stream = self._stream(raw.topic, streams, namespace, remap or {})
                if stream is not None:
                    self._check(stream, raw, chosen)
                streams_by_topic[raw.topic] = stream
            stream = streams_by_topic[raw.topic]
            if stream is not None and (message := self._decode(stream, raw)) is not None:
                yield message

    @staticmethod
    def _stream(
        topic: str, streams: Collection[str] | None, namespace: str | None, remap: Mapping[str, str]
    ) -> str | None:
        if topic in remap or topic.lstrip("/") in remap:
            stream = remap.get(topic) or remap[topic.lstrip("/")]
        elif (found := stream_of_topic(topic)) is not None and found[1] not in remap.values():
            if namespace is not None and found[0].strip("/") != namespace.strip("/"):
                return None
            stream = found[1]
        else:
            return None
        return stream if streams is None or stream in streams else None

    def _check(self, stream: str, raw: RawMessage, chosen: dict[str, str]) -> None:
        kind = raw.schema.name if raw.schema else "no schema"
        if kind.replace("/msg/", "/") != expected_type(stream).replace("/msg/", "/"):
            raise BagError(f"{self.path}: {raw.topic} is {kind}, expected {expected_type(stream)}")
        if chosen.setdefault(stream, raw.topic) != raw.topic:
            raise BagError(
                f"{self.path}: both {chosen[stream]} and {raw.topic} carry {stream}; name one robot with --namespace"
            )

    def _decode(self, stream: str, raw: RawMessage) -> BagMessage | None:
        try:
            fast = self._fast_decoder(stream, raw)
            if fast is not None:
                return BagMessage(stream, raw.log_time_ns, fast(raw.data))
            key = (raw.schema.name, raw.schema.data) if raw.schema else ("", b"")
            if key not in self._decoders:
                self._decoders[key] = DecoderFactory().decoder_for(raw.channel.message_encoding, raw.schema)
            decoder = self._decoders[key]
            if decoder is None:
                encoding = raw.schema.encoding if raw.schema else "none"
                raise BagError(
                    f"{self.path}: {raw.topic} has encoding {raw.channel.message_encoding!r} and schema {encoding!r}; "
                    "readable: cdr with ros2msg"
                )
            message = decoder(raw.data)
            if stream in {"task", "episode"}:
                return BagMessage(stream, raw.log_time_ns, None, str(message.data))
            return BagMessage(stream, raw.log_time_ns, to_sample(stream, message))
        except _UNDECODABLE as error:
            self.problems.undecodable[stream] += 1
            self.problems.first_error.setdefault(stream, " ".join(str(error).split())[:200])
            return None

    def _fast_decoder(self, stream: str, raw: RawMessage) -> Callable[[bytes], Sample] | None:
        if raw.channel.message_encoding != "cdr" or raw.data[:2] != ENCAPSULATION:
            return None
        if stream not in self._fast:
            self._fast[stream] = fast_decoder(stream)
        return self._fast[stream]

    def topics(self) -> Counter[str]:
        """Number of messages by topic, up to the first damage."""
        if self._topics is None:
            self._topics = Counter(raw.topic for path in self.files for raw in McapFile(path).messages())
        return self._topics

    def sha256(self) -> str:
        """Digest over the bytes of its files, in order."""
        digest = hashlib.sha256()
        for path in self.files:
            with path.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()


def bag_files(path: Path) -> tuple[Path, ...]:
    """MCAP files of a bag in recording order (NAME_2 before NAME_10)."""
    if path.is_file():
        if path.suffix == ".db3":
            raise BagError(f"{path} is an sqlite3 bag; convert it first: {_conversion(path.parent)}")
        return (path,)
    if not path.is_dir():
        raise BagError(f"no bag at {path}")
    files = tuple(sorted(path.glob("*.mcap"), key=natural_key))
    if not files and any(path.glob("*.db3")):
        raise BagError(f"{path} is an sqlite3 bag; convert it first: {_conversion(path)}")
    if not files:
        raise BagError(f"{path} is no bag: it holds no .mcap file")
    return files


def find_bags(paths: Collection[Path]) -> list[Path]:
    """Bags among and below `paths`: bag folders, .mcap files, or folders of either. BagError if there are none."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir() and not any(path.glob("*.mcap")) and not any(path.glob("*.db3")):
            inside = [p for p in sorted(path.iterdir(), key=natural_key) if p.is_dir() and any(p.glob("*.mcap"))]
            if not inside:
                raise BagError(f"no bags in {path}: expected bag folders with .mcap files, or .mcap files")
            found.extend(inside)
        elif path.is_dir() and len(files := sorted(path.glob("*.mcap"), key=natural_key)) > 1 and not _one_bag(path):
            found.extend(files)
        else:
            bag_files(path)
            found.append(path)
    repeated = [str(path) for path, count in Counter(p.resolve() for p in found).items() if count > 1]
    if repeated:
        raise BagError(f"given twice: {', '.join(repeated)}")
    return found


def natural_key(path: Path) -> tuple[Any, ...]:
    """Sort key that puts `x_2` before `x_10`."""
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name))


def _one_bag(folder: Path) -> bool:
    """Several .mcap files are one split bag when rosbag2's metadata says so, or when they are NAME_0, NAME_1, ..."""
    if (folder / "metadata.yaml").exists():
        return True
    stems = {re.sub(r"_\d+$", "", path.stem) for path in folder.glob("*.mcap")}
    return stems == {folder.name}


def _conversion(path: Path) -> str:
    return f"pip install rosbags && rosbags-convert --src {path} --dst {path}_mcap --dst-storage mcap"
