"""Run the test suite (from a checkout). Arguments go on to pytest: sealegs test tests/contract -k guard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from sealegs_contract.errors import MachineError

# The command line hands over everything, options too, without reading it.
PASSES_ARGUMENTS_ON = True


@dataclass(frozen=True)
class Config:
    """Arguments for pytest."""

    arguments: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PYTEST_ARGUMENT ...")] = ()
    """Passed to pytest as they are."""


def run(config: Config) -> int:
    """Replace this process by pytest in the checkout's root."""
    import os
    import sys
    from importlib.util import find_spec
    from pathlib import Path

    root = Path(__file__).resolve().parents[3]
    if not (root / "tests").is_dir() or not (root / "pyproject.toml").is_file():
        raise MachineError(f"the tests are in a checkout of Sealegs, and {root} is none: run ./sealegs test in one")
    if find_spec("pytest") is None:
        raise MachineError("pytest is not installed; run: pip install 'sealegs[dev]'")
    os.chdir(root)
    os.environ.setdefault("MUJOCO_GL", "osmesa")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *config.arguments])
