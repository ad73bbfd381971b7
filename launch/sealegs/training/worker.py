"""`python -m sealegs.training.worker '[["train", ...], ["evaluate", ...]]'`: command lines in turn, in one process.

The first that fails ends it, with its exit code.
"""

from __future__ import annotations

import json
import sys

from sealegs.cli import main

if __name__ == "__main__":
    for arguments in json.loads(sys.argv[1]):
        code = main(arguments)
        if code:
            sys.exit(code)
