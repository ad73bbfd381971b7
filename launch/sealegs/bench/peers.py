"""Peers: libraries that we compare with. Each runs in a virtual environment of its own and never becomes a dependency.

A peer's script is plain Python in sealegs/bench/peer_scripts: `python SCRIPT REQUEST.json ANSWER.json`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from sealegs.bench.frame import CellContext
from sealegs_contract.errors import MachineError
from sealegs_learning.files import write_json

SCRIPTS = Path(__file__).parent / "peer_scripts"


@dataclass(frozen=True)
class Peer:
    """A peer library. `requirements` are installed after the torch version that we run ourselves, if it needs one."""

    name: str
    requirements: tuple[str, ...]
    no_dependencies: tuple[str, ...] = ()
    """Installed last, without what they ask for."""
    torch: bool = True

    def python(self, folder: Path) -> Path:
        """Its interpreter `folder`/NAME/bin/python; the environment is made where there is none. Takes minutes."""
        home = (folder / self.name).absolute()
        python = home / "bin" / "python"
        if (home / "complete").is_file() or (python.is_file() and not (home / "begun").is_file()):
            return python
        home.mkdir(parents=True, exist_ok=True)
        (home / "begun").touch()
        self._call([sys.executable, "-m", "venv", "--clear", str(home)])
        (home / "begun").touch()
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if self.torch:
            self._call([*pip, f"torch=={metadata.version('torch').split('+')[0]}"])
        self._call([*pip, *self.requirements])
        if self.no_dependencies:
            self._call([*pip, "--no-deps", *self.no_dependencies])
        (home / "complete").touch()
        return python

    def run(self, context: CellContext, script: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Run peer_scripts/`script` with `request`; its answer. One CPU thread, no PYTHONPATH of ours.

        MachineError with the end of its output when it fails.
        """
        question, answer = context.folder / f"{self.name}_request.json", context.folder / f"{self.name}_answer.json"
        write_json(question, dict(request))
        answer.unlink(missing_ok=True)
        python = self.python(context.options.peers_folder)
        self._call([str(python), str(SCRIPTS / script), str(question), str(answer)])
        if not answer.is_file():
            raise MachineError(f"peer {self.name}: {script} ended without writing its answer {answer}")
        found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        return found

    def _call(self, command: list[str]) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
        environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            end = " ".join((done.stdout + done.stderr).split())[-800:]
            raise MachineError(f"peer {self.name}: {Path(command[0]).name} {command[1]} failed: {end}")
