"""The one exact CDR encoding of a message: no trailing bytes, and zeros where alignment leaves holes.

Fast DDS reserves alignment before the elements of a sequence of doubles even when it is empty, so rclpy hands back
up to four bytes of uninitialised memory per empty sequence; the padding between fields is uninitialised too. Strict
readers refuse the former, and both make equal messages differ: bags hold neither.
"""

from __future__ import annotations

from typing import Any

from rclpy.serialization import deserialize_message, serialize_message

ENCAPSULATION_BYTES = 4
_SIZES = {"boolean": 1, "octet": 1, "char": 1, "uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "uint32": 4, "int32": 4}
_SIZES |= {"float": 4, "uint64": 8, "int64": 8, "double": 8}


def cdr_size(message: Any) -> int:
    """Bytes of `message` in plain CDR, encapsulation header included."""
    return ENCAPSULATION_BYTES + _Walk().end_of(message, "", 0)


class _Walk:
    """Follows a message through its encoding, and notes the holes (start, end) that alignment leaves."""

    def __init__(self) -> None:
        self.holes: list[tuple[int, int]] = []

    def end_of(self, value: Any, kind: str, start: int) -> int:
        """Offset after `value`, written at `start` with CDR alignment: each primitive aligns to its own size."""
        if kind in _SIZES:
            return self._aligned(start, _SIZES[kind]) + _SIZES[kind]
        if kind.startswith("string"):
            return self._aligned(start, 4) + 4 + len(value.encode()) + 1
        if kind.startswith("sequence<"):
            element = kind[len("sequence<") : -1].split(",")[0].strip()
            return self._end_of_elements(value, element, self._aligned(start, 4) + 4)
        if kind.endswith("]"):
            return self._end_of_elements(value, kind[: kind.rindex("[")], start)
        for name, field_kind in value.get_fields_and_field_types().items():
            start = self.end_of(getattr(value, name), field_kind, start)
        return start

    def _end_of_elements(self, values: Any, kind: str, start: int) -> int:
        if kind in _SIZES:
            return self._aligned(start, _SIZES[kind]) + _SIZES[kind] * len(values) if len(values) else start
        for value in values:
            start = self.end_of(value, kind, start)
        return start

    def _aligned(self, offset: int, size: int) -> int:
        aligned = -(-offset // size) * size
        if aligned > offset:
            self.holes.append((offset, aligned))
        return aligned


def serialize_exact(message: Any) -> bytes:
    """The CDR bytes of `message`: equal messages give equal bytes."""
    return _exact(serialize_message(message), message)


def trim(data: bytes, message_type: type) -> bytes:
    """Serialised `data` of a `message_type`, made exact."""
    return _exact(data, deserialize_message(data, message_type))


def _exact(data: bytes, message: Any) -> bytes:
    walk = _Walk()
    exact = bytearray(data[: ENCAPSULATION_BYTES + walk.end_of(message, "", 0)])
    for start, end in walk.holes:
        exact[ENCAPSULATION_BYTES + start : ENCAPSULATION_BYTES + end] = bytes(end - start)
    return bytes(exact)
