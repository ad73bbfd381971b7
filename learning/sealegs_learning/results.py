"""The results file: what was run, on what, and which claims hold. `holds` is computed, never typed.

{"name", "command", "versions", "machine", "seconds", "seeds", "rows": [...],
 "claims": [{"claim", "value", "interval", "target", "holds"}]}
"""

from __future__ import annotations

import math
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from sealegs_contract.errors import LearningError
from sealegs_learning.files import write_json
from sealegs_learning.statistics import Interval

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_COMPARISON = re.compile(rf"(?:(low|high) )?(>=|<=|>|<|==) ?({_NUMBER})")
_RANGE = re.compile(rf"in \[({_NUMBER}), ({_NUMBER})\]")
PACKAGES = ("sealegs", "torch", "mujoco", "numpy", "onnxruntime", "gymnasium")


def target_holds(value: float | None, interval: Interval | None, target: str) -> bool:
    """Whether `target` holds: `>= 0.9` on the value, `low > 0` or `high <= 0.4` on the interval, `in [0.2, 0.5]`.

    A value that is unknown (None) or not a number holds nothing. LearningError on any other target.
    """
    unknown, value = value is None, math.nan if value is None else value
    if found := _RANGE.fullmatch(target):
        return float(found[1]) <= value <= float(found[2])
    found = _COMPARISON.fullmatch(target)
    if not found:
        raise LearningError(f"target {target!r} is not understood; examples: '>= 0.9', 'low > 0', 'in [0.2, 0.5]'")
    if found[1] and interval is None:
        if unknown:
            return False
        raise LearningError(f"target {target!r} speaks of an interval, but the claim has none")
    subject = value if not found[1] or interval is None else getattr(interval, found[1])
    limit = float(found[3])
    return {
        ">=": subject >= limit,
        "<=": subject <= limit,
        ">": subject > limit,
        "<": subject < limit,
        "==": subject == limit,
    }[found[2]]


@dataclass(frozen=True)
class Claim:
    """One claim with its measured value (None: unknown) and the target that it is held to."""

    claim: str
    value: float | None
    target: str
    interval: Interval | None = None

    @property
    def holds(self) -> bool:
        """Whether the target holds: computed, never typed."""
        return target_holds(self.value, self.interval, self.target)

    def __str__(self) -> str:
        """`success: 0.5 [0.4, 0.6] (target >= 0.9)`."""
        value = "unknown" if self.value is None else f"{self.value:.4g}"
        interval = f" [{self.interval.low:.4g}, {self.interval.high:.4g}]" if self.interval else ""
        return f"{self.claim}: {value}{interval} (target {self.target})"

    def to_json(self) -> dict[str, Any]:
        """As the results format has it."""
        return {
            "claim": self.claim,
            "value": self.value,
            "interval": None if self.interval is None else list(self.interval),
            "target": self.target,
            "holds": self.holds,
        }


@dataclass(frozen=True)
class Results:
    """One results file. `seconds` is the whole run's wall time."""

    name: str
    command: str
    seconds: float
    seeds: Sequence[int]
    rows: Sequence[Mapping[str, Any]]
    claims: Sequence[Claim]
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The whole file, with versions and machine filled in."""
        return {
            "name": self.name,
            "command": self.command,
            "versions": versions(),
            "machine": machine(),
            "seconds": self.seconds,
            "seeds": list(self.seeds),
            "rows": [dict(row) for row in self.rows],
            "claims": [claim.to_json() for claim in self.claims],
            **self.extra,
        }

    def write(self, path: Path) -> None:
        """Write atomically; a value that is not finite is refused."""
        try:
            write_json(path, self.to_json())
        except ValueError as error:
            raise LearningError(f"results {self.name}: a value is not finite, which JSON cannot hold") from error


def versions() -> dict[str, str]:
    """Versions of Python and of what decides the numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """What the run ran on; no host name."""
    found = {"system": platform.system(), "machine": platform.machine(), "cpus": os.cpu_count(), "cpu": _cpu_name()}
    gpu = _gpu_name()
    return found | {"gpu": gpu} if gpu else found


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _gpu_name() -> str:
    """NVIDIA GPUs as their driver names them; empty without one."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    query = [program, "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return ", ".join(done.stdout.split("\n")).strip(", ") if done.returncode == 0 else ""
