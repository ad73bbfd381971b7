"""Several command lines at once, each in a process of its own that dies with this one; progress from files."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.3
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Job:
    """Command lines of `sealegs`, one after the other; `done` says how many of `total` units of work are done."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    log: Path
    done: Callable[[], int]
    total: int


def run_jobs(jobs: Sequence[Job], at_once: int, show: Callable[[Job, int], None]) -> dict[str, str]:
    """Run the jobs, `at_once` at a time, and call `show(job, done)` meanwhile.

    The failed ones by name, with what they said last; the others go on. Ends its processes when interrupted.
    """
    waiting, running = list(jobs), dict[str, _Running]()
    failed: dict[str, str] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.pop(0)
                running[job.name] = _Running(job)
            time.sleep(POLL_S)
            for name, one in list(running.items()):
                code = one.poll()
                show(one.job, one.job.total if code == 0 else one.job.done())
                if code is not None:
                    del running[name]
                    if code:
                        failed[name] = _last_line(one.job.log, code)
    finally:
        for one in running.values():
            one.process.terminate()
        for one in running.values():
            one.process.wait()
    return failed


class _Running:
    """A job's current process; `poll` starts the next command when one has ended well."""

    def __init__(self, job: Job) -> None:
        self.job, self._next = job, 0
        job.log.parent.mkdir(parents=True, exist_ok=True)
        job.log.write_bytes(b"")
        self.process = self._start()

    def poll(self) -> int | None:
        """None while the job runs, else the exit code of its last command."""
        code = self.process.poll()
        if code == 0 and self._next < len(self.job.commands):
            self.process = self._start()
            return None
        return code

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "sealegs", *self.job.commands[self._next]]
        self._next += 1
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        # A file, not a pipe: nobody reads while it runs.
        with self.job.log.open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, preexec_fn=_die_with_parent
            )


def _die_with_parent() -> None:
    """Ask Linux for SIGTERM when the parent ends, also when it is killed; elsewhere a no-op."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _last_line(log: Path, code: int) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"{lines[-1] if lines else f'no output, exit code {code}'} ({log})"
