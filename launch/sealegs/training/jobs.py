"""Jobs at the same time, each in a process of its own that ends with this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.3


@dataclass(frozen=True)
class Job:
    """Command lines of `sealegs`, run in turn in one process; `done` says how many of `total` units are done."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    log: Path
    done: Callable[[], int]
    total: int


def run_jobs(jobs: Sequence[Job], at_once: int, show: Callable[[Job, int], None]) -> dict[str, str]:
    """Run the jobs, `at_once` at a time, and call `show(job, done)` meanwhile.

    The failed ones by name, with what they said last; the others go on. Ends its processes when interrupted.
    """
    waiting, running = list(jobs), dict[str, tuple[Job, subprocess.Popen[bytes]]]()
    failed: dict[str, str] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.pop(0)
                running[job.name] = job, _start(job)
            time.sleep(POLL_S)
            for name, (job, process) in list(running.items()):
                code = process.poll()
                show(job, job.total if code == 0 else min(job.done(), job.total))
                if code is not None:
                    del running[name]
                    if code:
                        failed[name] = _last_line(job.log, code)
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.wait()
    return failed


def _start(job: Job) -> subprocess.Popen[bytes]:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "sealegs.training.worker", str(os.getpid()), json.dumps(job.commands)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    # A file, not a pipe: nobody reads while it runs.
    with job.log.open("wb") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)


def _last_line(log: Path, code: int) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"{lines[-1] if lines else f'no output, exit code {code}'} ({log})"
