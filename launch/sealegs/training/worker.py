"""Command lines in turn, in one process: `python -m sealegs.training.worker PARENT '[["train", ...], ...]'`.

The first that fails ends it, with its exit code. It ends with the process PARENT, also when that one is killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys

from sealegs.cli import main

PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """Have Linux send SIGTERM when the parent ends; elsewhere a killed parent's jobs go on to their end."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before we could ask
            sys.exit(1)


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    for arguments in json.loads(sys.argv[2]):
        code = main(arguments)
        if code:
            sys.exit(code)
