"""Writes that a kill cannot leave half done."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sealegs_contract.errors import LearningError


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it becomes `path` at the end, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path` at the end. The one that it replaces stays as PATH.old, the one before it
    goes: at every moment of a kill there is a whole folder, as `path` or as PATH.old (see `settled`).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, dropped = (path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}") for _ in range(2))
    old = previous_of(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.iterdir():
            _sync(file)
        if path.exists():
            if old.exists():
                os.replace(old, dropped)
            os.replace(path, old)
        os.replace(temporary, path)
    finally:
        for folder in (temporary, dropped):
            shutil.rmtree(folder, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders that killed writes left in `folder`; nobody may be writing there."""
    for path in folder.glob(".*.????????"):
        if re.fullmatch(r"[0-9a-f]{8}", path.suffix[1:]):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder`, which is made, against other processes; the kernel lets go when this one ends, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LearningError(f"another process works in {folder}: wait for it, or choose another folder") from error
        yield


def previous_of(path: Path) -> Path:
    """Where `replaced_folder` leaves what it replaced."""
    return path.with_name(f"{path.name}.old")


def settled(path: Path) -> Path:
    """`path`, or PATH.old where a kill struck between the two renames of `replaced_folder`."""
    old = previous_of(path)
    return old if old.is_dir() and not path.exists() else path


def set_aside(damaged: Path) -> None:
    """Move a damaged folder to PATH.damaged, or the next write would keep it in the place of the whole PATH.old."""
    aside = damaged.with_name(f"{damaged.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    damaged.rename(aside)


def write_json(path: Path, value: Any) -> None:
    """Readable JSON with full-precision floats, atomically; NaN is refused."""
    with replaced_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
