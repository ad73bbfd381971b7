"""One MCAP file, read front to back, so that a file cut off by a crash still gives every message before the cut.

The index at the end of the file is never used. Chunk checksums are verified. Reading ends at the first damage, and
`McapFile.damage` says what and where; a chunk that was cut in the middle is decompressed as far as it goes.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import lz4.frame  # type: ignore[import-untyped]
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Metadata, Schema

from sealegs_contract.errors import BagError

_Record = TypeVar("_Record")

MAGIC = b"\x89MCAP0\r\n"
RECORD_HEADER = struct.Struct("<BQ")
CHUNK_HEADER = struct.Struct("<QQQII")  # start, end, uncompressed size, uncompressed CRC, length of compression name
MESSAGE_HEADER = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
MAXIMUM_RECORD_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class RawMessage:
    """An undecoded message: where it came from, when it was logged [ns], and its CDR bytes."""

    topic: str
    channel: Channel
    schema: Schema | None
    log_time_ns: int
    data: bytes


class _DamageError(Exception):
    """Reading cannot go on; the message says why."""


class McapFile:
    """Iterate `messages()` once; afterwards `metadata` and `damage` are complete.

    metadata: records by name, the last of a name wins. damage: None, or one sentence.
    Raises BagError for a missing or foreign file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata: dict[str, dict[str, str]] = {}
        self.damage: str | None = None
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, Channel] = {}
        try:
            self.size = path.stat().st_size
            with path.open("rb") as stream:
                start = stream.read(len(MAGIC))
        except OSError as error:
            raise BagError(f"cannot read bag file {path}: {error.strerror}") from error
        if start != MAGIC:
            raise BagError(
                f"{path} is no MCAP file: it starts with {start!r}" if start else f"{path} is empty: no messages in it"
            )

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Messages in file order, of `topics` or of all."""
        with self.path.open("rb") as stream:
            stream.seek(len(MAGIC))
            try:
                yield from self._data_section(stream, topics)
            except _DamageError as damage:
                self.damage = f"{self.path.name}: {damage}"

    def read_metadata(self) -> dict[str, dict[str, str]]:
        """Metadata records only, skipping the messages; a damaged tail is ignored here."""
        found: dict[str, dict[str, str]] = {}
        with self.path.open("rb") as stream:
            stream.seek(len(MAGIC))
            while len(head := stream.read(RECORD_HEADER.size)) == RECORD_HEADER.size:
                opcode, length = RECORD_HEADER.unpack(head)
                if opcode == Opcode.DATA_END or stream.tell() + length > self.size:
                    break
                if opcode != Opcode.METADATA:
                    stream.seek(length, io.SEEK_CUR)
                    continue
                try:
                    record = _parse(Metadata, stream.read(length))
                except (struct.error, ValueError, McapError):
                    break
                found[record.name] = record.metadata
        return found

    def _data_section(self, stream: BinaryIO, topics: Collection[str] | None) -> Iterator[RawMessage]:
        while True:
            offset = stream.tell()
            head = stream.read(RECORD_HEADER.size)
            if len(head) < RECORD_HEADER.size:
                raise _DamageError(f"cut off after {offset} bytes, without the end marker (the recorder was killed?)")
            opcode, length = RECORD_HEADER.unpack(head)
            if opcode == Opcode.DATA_END:
                return
            if length > MAXIMUM_RECORD_BYTES and offset + length <= self.size:
                raise _DamageError(
                    f"a record of {length} bytes at byte {offset}; at most {MAXIMUM_RECORD_BYTES} are read"
                )
            body = stream.read(min(length, MAXIMUM_RECORD_BYTES))
            try:
                yield from self._record(opcode, body, len(body) == length, topics)
            except (struct.error, ValueError, RuntimeError, EOFError, zstandard.ZstdError, McapError) as error:
                raise _DamageError(f"damaged record at byte {offset} of {self.size}: {error}") from error
            if len(body) < length:
                raise _DamageError(
                    f"cut off inside the record at byte {offset} of {self.size} (the recorder was killed?)"
                )

    def _record(self, opcode: int, body: bytes, whole: bool, topics: Collection[str] | None) -> Iterator[RawMessage]:
        if opcode == Opcode.CHUNK:
            yield from self._chunk_records(_chunk_content(body, whole), topics)
        elif not whole:
            return
        elif opcode == Opcode.MESSAGE:
            yield from self._message(memoryview(body), topics)
        elif opcode == Opcode.METADATA:
            record = _parse(Metadata, body)
            self.metadata[record.name] = record.metadata
        else:
            self._definition(opcode, body)

    def _chunk_records(self, content: bytes, topics: Collection[str] | None) -> Iterator[RawMessage]:
        view, position = memoryview(content), 0
        while position + RECORD_HEADER.size <= len(view):
            opcode, length = RECORD_HEADER.unpack_from(view, position)
            position += RECORD_HEADER.size
            if position + length > len(view):
                return  # only in a chunk that was cut off, which the caller reports
            body = view[position : position + length]
            position += length
            if opcode == Opcode.MESSAGE:
                yield from self._message(body, topics)
            else:
                self._definition(opcode, bytes(body))

    def _definition(self, opcode: int, body: bytes) -> None:
        if opcode == Opcode.SCHEMA:
            schema = _parse(Schema, body)
            self._schemas[schema.id] = schema
        elif opcode == Opcode.CHANNEL:
            channel = _parse(Channel, body)
            self._channels[channel.id] = channel

    def _message(self, body: memoryview, topics: Collection[str] | None) -> Iterator[RawMessage]:
        number, _, log_time_ns, _ = MESSAGE_HEADER.unpack_from(body)
        if number not in self._channels:
            raise ValueError(f"a message of channel {number}, which was never declared")
        channel = self._channels[number]
        if topics is None or channel.topic in topics:
            schema = self._schemas.get(channel.schema_id)
            yield RawMessage(channel.topic, channel, schema, log_time_ns, bytes(body[MESSAGE_HEADER.size :]))


def _parse(kind: type[_Record], body: bytes) -> _Record:
    return kind.read(ReadDataStream(io.BytesIO(body)))  # type: ignore[attr-defined,no-any-return]


def _chunk_content(body: bytes, whole: bool) -> bytes:
    """Records of a chunk, decompressed and checked; of a chunk that was cut off, as much as can be decompressed."""
    if len(body) < CHUNK_HEADER.size and not whole:
        return b""
    _, _, size, crc, name_length = CHUNK_HEADER.unpack_from(body)
    if size > MAXIMUM_RECORD_BYTES:
        raise ValueError(f"a chunk of {size} bytes; at most {MAXIMUM_RECORD_BYTES} are read")
    start = CHUNK_HEADER.size + name_length
    compression = body[CHUNK_HEADER.size : start].decode("utf-8", "replace")
    data = body[start + 8 :]
    match compression:
        case "":
            content = data
        case "zstd":
            content = zstandard.ZstdDecompressor().decompressobj().decompress(data)
        case "lz4":
            content = lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size)
        case _:
            raise ValueError(f"chunks compressed with {compression!r}; readable: zstd, lz4, none")
    if whole and len(content) != size:
        raise ValueError(f"a chunk holds {len(content)} bytes instead of {size}")
    if whole and crc and zlib.crc32(content) != crc:
        raise ValueError("a chunk does not match its checksum")
    return content
