"""Stages that remember: a stage whose result is on record is not run again, so Ctrl-C and --resume lose nothing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sealegs_contract.errors import MachineError

Details = dict[str, Any]


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all: written beside, then renamed over."""
    temporary = path.with_name(path.name + ".part")
    with temporary.open("w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=1, allow_nan=False)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


class StageLog:
    """`stages.json` of a run: for each finished stage its seconds and its details (plain JSON), in order.

    `announce(name, seconds, on_record)` is told of every stage; of one on record, the seconds that it took back then.
    """

    def __init__(self, run: Path, announce: Callable[[str, float, bool], None]) -> None:
        self.run_folder = run
        self._path = run / "stages.json"
        self._announce = announce
        self.done: dict[str, Details] = {}
        if self._path.is_file():
            try:
                self.done = json.loads(self._path.read_text(encoding="utf-8"))
            except json.JSONDecodeError as error:
                raise MachineError(f"{self._path}: not readable ({error}); start a new run without --resume") from error

    def stage(self, name: str, work: Callable[[], Details]) -> Details:
        """Details of stage `name`: from the record, or from `work()`, which is then recorded."""
        if name in self.done:
            self._announce(name, self.done[name]["seconds"], True)
            return dict(self.done[name]["details"])
        started = time.monotonic()
        details = work()
        seconds = time.monotonic() - started
        # A round trip through JSON, so that a resumed run sees exactly what this one sees.
        kept: Details = json.loads(json.dumps(details, allow_nan=False))
        self.done[name] = {"seconds": round(seconds, 3), "details": kept}
        write_json(self._path, self.done)
        self._announce(name, seconds, False)
        return kept

    @property
    def seconds(self) -> dict[str, float]:
        """Wall seconds of every finished stage."""
        return {name: entry["seconds"] for name, entry in self.done.items()}
