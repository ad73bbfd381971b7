"""What the operating system refused, in words that say what to do; and asking it before the work begins."""

from __future__ import annotations

import errno
import os
from pathlib import Path

ADVICE = {
    errno.EEXIST: "a file is there where a folder is needed: name another place, or move the file away",
    errno.ENOTDIR: "a part of this path is a file, not a folder: name another place, or move the file away",
    errno.EISDIR: "this is a folder where a file is needed: name a file",
    errno.ENOENT: "no such file or folder: check the path",
    errno.EACCES: "permission denied: name a place of your own, or change its permissions",
    errno.EPERM: "permission denied: name a place of your own, or change its permissions",
    errno.EROFS: "this file system is read-only: name a place on another one",
    errno.ENOSPC: "no space left on this disk: free some, or name a place on another one",
    errno.EDQUOT: "your share of this disk is used up: free some, or name a place on another one",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.ENOTEMPTY: "the folder is not empty: name another one, or empty it",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n)",
}


def advice(error: OSError) -> str:
    """One line: the path, what is wrong with it, and what to do."""
    path = error.filename if error.filename is not None else error.filename2
    reason = ADVICE.get(error.errno or 0, error.strerror or str(error))
    return reason if path is None else f"{path}: {reason}"


def require_folder(path: Path) -> None:
    """Make the folder `path` before the work that ends in it. Raises OSError where that cannot be (see `advice`)."""
    path.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def require_file(path: Path) -> None:
    """Ask for a place for the file `path`, which may be there already, as `require_folder` does."""
    require_folder(path.parent)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
