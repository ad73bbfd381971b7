"""Image files as data URIs, so that a page needs no other file."""

from __future__ import annotations

import base64
import struct
from pathlib import Path

from sealegs_contract.errors import ReportError

MAXIMUM_BYTES = 8 * 1024 * 1024
_SIGNATURES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png", b"GIF8": "image/gif"}
_JPEG_SIZES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})


def image_kind(content: bytes, source: str = "image") -> str:
    """`image/jpeg`, `image/png` or `image/gif`, by content. Raises ReportError for anything else."""
    for signature, kind in _SIGNATURES.items():
        if content.startswith(signature):
            return kind
    raise ReportError(f"{source}: expected a JPEG, PNG or GIF image, got bytes that start with {content[:8]!r}")


def data_uri(path: Path, run_dir: Path) -> str:
    """`data:image/jpeg;base64,...` of a file inside `run_dir`. Raises ReportError if it leads out or is no image."""
    whole = path.resolve()
    if not whole.is_relative_to(run_dir.resolve()):
        raise ReportError(f"{path} leads out of the run folder {run_dir}")
    if whole.stat().st_size > MAXIMUM_BYTES:
        raise ReportError(f"{path}: {whole.stat().st_size} bytes; an image in a report has at most {MAXIMUM_BYTES}")
    content = whole.read_bytes()
    return f"data:{image_kind(content, str(path))};base64,{base64.b64encode(content).decode()}"


def load_frames(names: tuple[str, ...], run_dir: Path) -> tuple[list[str], int]:
    """Data URIs of the frames that exist, and the number of those that are missing."""
    present = [run_dir / name for name in names if (run_dir / name).is_file()]
    return [data_uri(path, run_dir) for path in present], len(names) - len(present)


def image_size(uri: str) -> tuple[int, int] | None:
    """(width, height) px from the header of an image in a data URI; None where the header does not tell."""
    content = base64.b64decode(uri.partition(",")[2])
    match image_kind(content):
        case "image/png":
            width, height = struct.unpack(">II", content[16:24])
        case "image/gif":
            width, height = struct.unpack("<HH", content[6:10])
        case _:
            return _jpeg_size(content)
    return width, height


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    # Segments are FF, marker, length (big endian, itself included); a frame header holds precision, height, width.
    at = 2
    while at + 9 < len(content) and content[at] == 0xFF:
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if marker in _JPEG_SIZES:
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            return width, height
        at += 2 + length
    return None
