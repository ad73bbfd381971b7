"""Files and folders that are replaced whole or not at all, and a lock for one process at a time."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Write `path`, or leave it as it was; on the disk when this returns. A link is followed, not replaced."""
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_folder(folder: Path, out: Path) -> None:
    """Give the complete `folder` the name `out`; what had that name is removed. At every moment one of them has it.

    Where the file system cannot exchange two names, a kill may leave neither: the former one is then `.NAME.old`.
    """
    if not out.exists():
        folder.rename(out)
        return
    if _exchanged(folder, out):
        shutil.rmtree(folder)
        return
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    out.rename(old)
    folder.rename(out)
    shutil.rmtree(old)


def _exchanged(a: Path, b: Path) -> bool:
    """renameat2(2) with RENAME_EXCHANGE, which Python does not offer; False where it is not to be had."""
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return int(call(here, os.fsencode(a), here, os.fsencode(b), ctypes.c_uint(exchange))) == 0


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Reading, changing and writing a file of `folder`, one process at a time. The folder is made where it lacks."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
