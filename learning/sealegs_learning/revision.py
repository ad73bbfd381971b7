"""Which source this package runs from: a git commit where it lies in a checkout, else the installed version."""

from __future__ import annotations

import os
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

TIMEOUT_S = 20.0
OWN_FILE = Path(__file__).with_name("__init__.py")


def revision(file: Path = OWN_FILE) -> dict[str, Any]:
    """{"commit", "dirty"} where git tracks `file`, which is one of this package's, else {"version"}.

    `dirty`: tracked files of the checkout differ from the commit. A package that was installed into somebody's
    repository is not tracked by it, and has its version.
    """
    if _git(file, "ls-files", "--error-unmatch", file.name) is None:
        return {"version": _version()}
    commit = _git(file, "rev-parse", "--verify", "HEAD")
    changes = _git(file, "status", "--porcelain", "--untracked-files=no")
    return {"version": _version()} if commit is None or changes is None else {"commit": commit, "dirty": bool(changes)}


def _git(file: Path, *words: str) -> str | None:
    """What git says in the folder of `file`; None where there is no git, or where it refuses."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(file.parent), *words]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            env=own | {"GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version() -> str:
    try:
        return metadata.version("sealegs")
    except metadata.PackageNotFoundError:
        return "unknown"
