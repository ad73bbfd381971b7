"""Exact serialised size of a message.

Fast DDS reserves alignment before the elements of a sequence of doubles even when it is empty, so rclpy hands back
up to four bytes of uninitialised memory per empty sequence. Strict readers refuse them and they make equal messages
differ: bags hold the exact size.
"""

from __future__ import annotations

from typing import Any

from rclpy.serialization import deserialize_message, serialize_message

ENCAPSULATION_BYTES = 4
_SIZES = {"boolean": 1, "octet": 1, "char": 1, "uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "uint32": 4, "int32": 4}
_SIZES |= {"float": 4, "uint64": 8, "int64": 8, "double": 8}


def cdr_size(message: Any) -> int:
    """Bytes of `message` in plain CDR, encapsulation header included."""
    return ENCAPSULATION_BYTES + _end_of(message, "", 0)


def _end_of(value: Any, kind: str, start: int) -> int:
    """Offset after `value`, written at `start` with CDR alignment: each primitive aligns to its own size."""
    if kind in _SIZES:
        return _aligned(start, _SIZES[kind]) + _SIZES[kind]
    if kind.startswith("string"):
        return _aligned(start, 4) + 4 + len(value.encode()) + 1
    if kind.startswith("sequence<"):
        element = kind[len("sequence<") : -1].split(",")[0].strip()
        return _end_of_elements(value, element, _aligned(start, 4) + 4)
    if kind.endswith("]"):
        return _end_of_elements(value, kind[: kind.rindex("[")], start)
    for name, field_kind in value.get_fields_and_field_types().items():
        start = _end_of(getattr(value, name), field_kind, start)
    return start


def _end_of_elements(values: Any, kind: str, start: int) -> int:
    if kind in _SIZES:
        return _aligned(start, _SIZES[kind]) + _SIZES[kind] * len(values) if len(values) else start
    for value in values:
        start = _end_of(value, kind, start)
    return start


def _aligned(offset: int, size: int) -> int:
    return -(-offset // size) * size


def serialize_exact(message: Any) -> bytes:
    """CDR bytes of `message` without trailing bytes."""
    return bytes(serialize_message(message)[: cdr_size(message)])


def trim(data: bytes, message_type: type) -> bytes:
    """Serialised `data` of a `message_type` without trailing bytes."""
    return data[: cdr_size(deserialize_message(data, message_type))]
