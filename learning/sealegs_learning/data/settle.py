"""What an import that was killed leaves beside a dataset, and how the next one puts it right.

`.NAME.partial-PID` is a dataset that process PID writes; `.NAME.old-PID` is the one that it replaces, from the moment
when its own is complete until that one carries the name.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def partial_folder(out: Path) -> Path:
    """Where this process writes the dataset that becomes `out`."""
    return out.with_name(f".{out.name}.partial-{os.getpid()}")


def put_in_place(folder: Path, out: Path) -> None:
    """Give the complete dataset `folder` the name `out`. A kill between the two renames is mended by `settle`."""
    old = out.with_name(f".{out.name}.old-{os.getpid()}")
    if out.exists():
        out.rename(old)
    folder.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def settle(out: Path) -> None:
    """Finish the replacement of `out` that a kill interrupted, and remove what dead imports left behind."""
    for old in sorted(out.parent.glob(f".{out.name}.old-*")):
        process = old.name.rpartition("-")[2]
        if _alive(process):
            continue
        complete = out.with_name(f".{out.name}.partial-{process}")
        if not out.exists():
            (complete if complete.is_dir() else old).rename(out)
        shutil.rmtree(old, ignore_errors=True)
    for left in out.parent.glob(f".{out.name}.partial-*"):
        if not _alive(left.name.rpartition("-")[2]):
            shutil.rmtree(left, ignore_errors=True)


def _alive(process: str) -> bool:
    """Whether another process of that number lives; this one's own leftovers come from before a reused number."""
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return int(process) != os.getpid()
