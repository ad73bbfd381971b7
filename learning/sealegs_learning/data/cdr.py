"""Samples straight from CDR bytes, for the four message types of a bag: several times faster than the general decoder.

Little-endian plain CDR, as every ROS 2 middleware writes it; anything else goes to the general decoder. A primitive
lies at a multiple of its size from the start of the body; an empty sequence is a count alone. The tests compare both.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.sample import Sample
from sealegs_learning.data import messages

ENCAPSULATION = b"\x00\x01"
HEADER_BYTES = 4
_TIME = struct.Struct("<iI")
_COUNT = struct.Struct("<I")
_POSE = struct.Struct("<7d")


class Cursor:
    """Reads values one after another. Positions count from the start of the body. Short data raises ValueError."""

    __slots__ = ("at", "body")

    def __init__(self, data: bytes) -> None:
        self.body = memoryview(data)[HEADER_BYTES:]
        self.at = 0

    def take(self, size: int, align: int) -> memoryview:
        """The next `size` bytes, from a multiple of `align`."""
        start = -(-self.at // align) * align
        self.at = start + size
        if self.at > len(self.body):
            raise ValueError(f"needs {self.at} bytes, has {len(self.body)}")
        return self.body[start : self.at]

    def time_ns(self) -> int:
        """builtin_interfaces Time or Duration, ns."""
        seconds, nanoseconds = _TIME.unpack(self.take(8, 4))
        return int(seconds) * 1_000_000_000 + int(nanoseconds)

    def count(self) -> int:
        """Length of a sequence or string."""
        return int(_COUNT.unpack(self.take(4, 4))[0])

    def text(self) -> str:
        """A string, without its closing zero."""
        return bytes(self.take(self.count(), 1)[:-1]).decode()

    def texts(self) -> tuple[str, ...]:
        """A sequence of strings."""
        return tuple(self.text() for _ in range(self.count()))

    def doubles(self) -> NDArray[np.float64]:
        """A sequence of doubles, copied."""
        size = self.count()
        return np.frombuffer(self.take(8 * size, 8), "<f8").astype(np.float64) if size else np.empty(0)


def fast_decoder(stream: str) -> Callable[[bytes], Sample] | None:
    """Decoder of a stream's messages; None for streams of texts. Raises ValueError or SpecError on bad data."""
    kind, _, rest = stream.partition("/")
    match kind:
        case "joint_states":
            return _joints
        case "joint_trajectory":
            return _command
        case "objects":
            name = rest.removesuffix("/pose")
            return lambda data: _pose(name, data)
        case "camera":
            return lambda data: _image(rest, data)
    return None


def _joints(data: bytes) -> Sample:
    cursor = Cursor(data)
    stamp_ns, _, names = cursor.time_ns(), cursor.text(), cursor.texts()
    return messages.joint_sample(stamp_ns, names, cursor.doubles(), cursor.doubles(), cursor.doubles())


def _command(data: bytes) -> Sample:
    cursor = Cursor(data)
    stamp_ns, _, names = cursor.time_ns(), cursor.text(), cursor.texts()
    rows, until_ns = [], []
    for _ in range(cursor.count()):
        rows.append(cursor.doubles())
        for _unused in ("velocities", "accelerations", "effort"):
            cursor.doubles()
        until_ns.append(cursor.time_ns())
    return messages.command_sample(stamp_ns, names, rows, tuple(until_ns))


def _pose(name: str, data: bytes) -> Sample:
    cursor = Cursor(data)
    stamp_ns, frame = cursor.time_ns(), cursor.text()
    values = _POSE.unpack(cursor.take(_POSE.size, 8))
    return messages.pose_sample(stamp_ns, name, frame, values[:3], values[3:])


def _image(camera: str, data: bytes) -> Sample:
    cursor = Cursor(data)
    stamp_ns, _, encoding = cursor.time_ns(), cursor.text(), cursor.text()
    return messages.image_sample(stamp_ns, camera, encoding, bytes(cursor.take(cursor.count(), 1)))
