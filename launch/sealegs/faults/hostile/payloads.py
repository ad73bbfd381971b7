"""Datasets as an enemy would hand them out: each function spoils a good one in place.

`outside` is a folder beside the dataset that nothing may be read from or written to.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DATA, INFO, OURS = "data/chunk-000/file-000.parquet", "meta/info.json", "meta/sealegs.json"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
IMAGES = "observation.images.front"
SECRET, EXECUTED = "secret.parquet", "executed"
HUGE = 10**12
BOMB_PIXELS = 100_000
BOMB_BYTES = 64 << 20

Spoil = Callable[[Path, Path, np.random.Generator], None]


class Payload:
    """A pickle of it makes a file, as a sign that somebody unpickled it."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.sign,)


def flip(dataset: Path, _: Path, rng: np.random.Generator) -> None:
    """One bit of one file."""
    path = _any_file(dataset, rng)
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def truncate(dataset: Path, _: Path, rng: np.random.Generator) -> None:
    """One file, cut anywhere."""
    path = _any_file(dataset, rng)
    os.truncate(path, int(rng.integers(path.stat().st_size)))


def deep_json(dataset: Path, _: Path, rng: np.random.Generator) -> None:
    """Objects in objects."""
    _any_json(dataset, rng).write_text('{"a":' * 200_000)


def wide_json(dataset: Path, _: Path, rng: np.random.Generator) -> None:
    """A small file of millions of objects."""
    _any_json(dataset, rng).write_text('{"a":[' + "[]," * (1 << 20) + "0]}")


def long_json(dataset: Path, _: Path, rng: np.random.Generator) -> None:
    """A file that is larger than this machine's memory, and takes no room."""
    os.truncate(_any_json(dataset, rng), 1 << 40)


def odd_numbers(dataset: Path, _: Path, rng: np.random.Generator) -> None:
    """What is no number, or no number that can be meant."""
    value = ["1" * 5000, "1e999", "-1", "NaN", '"40"', "[]", "null", "0"][rng.integers(8)]
    key = ["fps", "total_frames", "total_episodes"][rng.integers(3)]
    text = (dataset / INFO).read_text()
    present = json.loads(text)[key]
    (dataset / INFO).write_text(text.replace(f'"{key}": {present}', f'"{key}": {value}'))


def claim_rows(dataset: Path, _: Path, rng: np.random.Generator) -> None:
    """Tables that say they have a million million rows, in agreement with info.json."""
    rows = pq.read_metadata(dataset / DATA).num_rows
    claimed = [HUGE, 10 * rows, 50_000_000][rng.integers(3)]
    _claim(dataset / DATA, rows, claimed)
    _edit_info(dataset, total_frames=claimed)
    if rng.random() < 0.5:
        (dataset / OURS).unlink()


def pickled_file(dataset: Path, outside: Path, rng: np.random.Generator) -> None:
    """A pickle under another name."""
    _any_file(dataset, rng).write_bytes(pickle.dumps(Payload(outside / EXECUTED)))


def pickled_type(dataset: Path, outside: Path, _: np.random.Generator) -> None:
    """An arrow extension type, which old versions of pyarrow unpickled on sight."""
    table = pq.read_table(dataset / DATA, partitioning=None)
    payload = pickle.dumps(Payload(outside / EXECUTED))
    marks = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": payload}
    fields = [field.with_metadata(marks) if field.name == "action" else field for field in table.schema]
    pq.write_table(table.cast(pa.schema(fields, table.schema.metadata)), dataset / DATA)


def link_outside(dataset: Path, outside: Path, rng: np.random.Generator) -> None:
    """A file, or the folder of the rows, that is a link to somewhere else: absolute or relative."""
    path = dataset / [DATA, EPISODES, INFO, OURS, "data"][rng.integers(5)]
    target = outside / (SECRET if path.is_file() else "folder")
    if path.is_dir():
        shutil.move(path, target)
    else:
        path.replace(target)
    path.symlink_to(target if rng.random() < 0.5 else os.path.relpath(target, path.parent))


def odd_file(dataset: Path, _: Path, rng: np.random.Generator) -> None:
    """A pipe, a folder, a link to itself or an endless device where a file is expected."""
    path = dataset / [DATA, INFO, OURS][rng.integers(3)]
    path.unlink()
    match rng.integers(4):
        case 0:
            os.mkfifo(path)
        case 1:
            path.mkdir()
        case 2:
            path.symlink_to(path)
        case _:
            path.symlink_to("/dev/zero")


def path_elsewhere(dataset: Path, outside: Path, rng: np.random.Generator) -> None:
    """Paths in the metadata and beside the images that lead outside."""
    target = [str(outside / SECRET), f"../{outside.name}/{SECRET}", "/etc/passwd"][rng.integers(3)]
    _edit_info(dataset, data_path=target, video_path=target)
    _set_image(dataset, {"bytes": None, "path": target})


def image_bomb(dataset: Path, _: Path, rng: np.random.Generator) -> None:
    """An image of 100000 x 100000 pixels by its header; the file has some bytes."""
    _set_image(dataset, {"bytes": _png() if rng.random() < 0.5 else _jpeg(), "path": None})


def image_that_swells(dataset: Path, _: Path, __: np.random.Generator) -> None:
    """An image of many megabytes that is nothing on the disk."""
    _set_image(dataset, {"bytes": bytes(BOMB_BYTES), "path": None})


SPOILS: tuple[Spoil, ...] = (
    flip, truncate, deep_json, wide_json, long_json, odd_numbers, claim_rows, pickled_file, pickled_type, link_outside,
    odd_file, path_elsewhere, image_bomb, image_that_swells,
)  # fmt: skip


def _any_file(dataset: Path, rng: np.random.Generator) -> Path:
    files = sorted(path for path in dataset.rglob("*") if path.is_file())
    return files[rng.integers(len(files))]


def _any_json(dataset: Path, rng: np.random.Generator) -> Path:
    return dataset / [INFO, OURS][rng.integers(2)]


def _edit_info(dataset: Path, **changes: Any) -> None:
    content = json.loads((dataset / INFO).read_text())
    (dataset / INFO).write_text(json.dumps(content | changes))


def _set_image(dataset: Path, value: dict[str, Any]) -> None:
    """Another value as the image of the first row."""
    table = pq.read_table(dataset / DATA, partitioning=None)
    place = table.schema.get_field_index(IMAGES)
    values = pa.array([value, *table.column(IMAGES).to_pylist()[1:]], table.schema.field(place).type)
    pq.write_table(table.set_column(place, IMAGES, values), dataset / DATA, compression="zstd")


def _claim(path: Path, rows: int, claimed: int) -> None:
    """Rewrite the number of rows in a parquet footer: a thrift i64, as the third field of the file's metadata."""
    content = path.read_bytes()
    size = struct.unpack("<I", content[-8:-4])[0]
    footer = content[-8 - size : -8]
    said = footer.replace(b"\x16" + varint(2 * rows), b"\x16" + varint(2 * claimed), 1)
    path.write_bytes(content[: -8 - size] + said + struct.pack("<I", len(said)) + b"PAR1")


def varint(value: int) -> bytes:
    """LEB128."""
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _png() -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", BOMB_PIXELS, BOMB_PIXELS, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def _jpeg() -> bytes:
    """The largest sizes that a JPEG can claim."""
    frame = struct.pack(">HBHHB", 17, 8, 0xFFFF, 0xFFFF, 3) + bytes([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
    return b"\xff\xd8\xff\xc0" + frame + b"\xff\xd9"
