"""Runs the processes of a plan, prefixes their output, and leaves none behind.

    with LaunchSession("sim.launch.xml", {"task": "drawer"}, log_dir=folder) as session:
        ...
        session.check()   # raises LaunchError when a process has ended badly

One thread starts, watches, restarts and stops all processes. Each process leads a session and group of its own, so
that Ctrl-C in a terminal reaches it once, through us, and so that its children end with it. Where `setpriv` exists
(util-linux), processes also end when the runner itself is killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from sealegs.launching.evaluate import plan_launch
from sealegs.launching.process import ProcessSpec
from sealegs_contract.errors import LaunchError

POLL_S = 0.02
MAXIMUM_SAID = 300  # characters of a process's last line in an error
Say = Callable[[str], None]


def _print(line: str) -> None:
    print(line, flush=True)


class _Process:
    """One running process and its restarts."""

    def __init__(self, spec: ProcessSpec, files: tuple[Path, ...], log: Path | None, say: Say) -> None:
        self.spec = spec
        self.log = log
        self._say = say
        arguments = [word for path in files for word in ("--params-file", str(path))]
        ros = ["--ros-args", *spec.trailing, *arguments] if spec.trailing or arguments else []
        self.command = [*spec.command, *ros]
        self.popen: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self.ended_at = 0.0
        self.finished = False
        self.last_line = ""
        self._cleaned = True
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """Start it, tied to the life of the calling thread. Raises LaunchError."""
        setpriv = shutil.which("setpriv")
        prefix = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
        if shutil.which(self.command[0], path=self.spec.environment.get("PATH")) is None:
            raise LaunchError(f"{self.spec.where}: {self.command[0]} is not an executable on this machine")
        try:
            self.popen = subprocess.Popen(
                [*prefix, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=self.spec.folder,
                env={"PYTHONUNBUFFERED": "1", **self.spec.environment},
                start_new_session=True,
            )
        except OSError as error:
            raise LaunchError(f"{self.spec.where}: cannot start {self.command[0]}: {error}") from error
        self.starts += 1
        self._cleaned = False
        assert self.popen.stdout is not None  # stdout=PIPE
        self._reader = threading.Thread(target=self._read, args=(self.popen.stdout,), daemon=True)
        self._reader.start()

    def _read(self, stream: IO[bytes]) -> None:
        log = self.log.open("ab") if self.log else contextlib.nullcontext()
        with stream, log as file:
            for line in stream:
                if file:
                    file.write(line)
                    file.flush()
                text = line.decode(errors="replace").rstrip()
                self.last_line = text or self.last_line
                self._say(f"[{self.spec.label}] {text}")

    def signal_group(self, number: int) -> None:
        """Signal the process and its children; whoever is gone already is none of our business."""
        if self.popen is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.popen.pid, number)

    @property
    def running(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    def clean_up(self) -> None:
        """After its end: end what it left in its group, and take its last lines."""
        if self._cleaned:
            return  # its group's number may belong to somebody else by now
        self._cleaned = True
        self.signal_group(signal.SIGKILL)
        if self._reader:
            self._reader.join(timeout=2.0)


class LaunchSession:
    """The processes of one launch file, from `start` to `stop`; also a context manager."""

    def __init__(
        self,
        file: str | Path,
        arguments: Mapping[str, str] | None = None,
        *,
        log_dir: str | Path | None = None,
        echo: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`log_dir` gets one LABEL.log per process; `echo` prints all output, prefixed. Raises LaunchError."""
        self.plan = plan_launch(file, arguments, environment)
        self._say: Say = _print if echo else lambda _: None
        self._log_dir = Path(log_dir) if log_dir else None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._processes: tuple[_Process, ...] = ()
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._ended = threading.Event()
        self._error: LaunchError | None = None
        self._exit_code = 0
        self._failures: list[str] = []

    def __enter__(self) -> LaunchSession:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start every process; when one cannot start, those before it are stopped and LaunchError is raised."""
        self._temporary = tempfile.TemporaryDirectory(prefix="sealegs-launch-")
        if self._log_dir:
            self._log_dir.mkdir(parents=True, exist_ok=True)
        for message in self.plan.messages:
            self._say(f"[launch] {message}")
        self._processes = tuple(self._prepare(spec) for spec in self.plan.processes)
        self._thread = threading.Thread(target=self._run, name="launch-session", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._error:
            self.stop()
            raise self._error

    def request_stop(self) -> None:
        """Ask for the end without waiting; asked a second time, SIGTERM follows at once. Safe in a signal handler."""
        (self._hurry if self._stopping.is_set() else self._stopping).set()

    def stop(self) -> int:
        """SIGINT, then SIGTERM, then SIGKILL by their timeouts; returns when none is left. May be called twice."""
        self._stopping.set()
        return self.wait() or 0

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait until all processes have ended: the exit code, or None after `timeout_s`.

        0, or the first code that a process ended with before the end was asked for (128 + N for signal N).
        """
        if self._thread is None:
            return 0
        if not self._ended.wait(timeout_s):
            return None
        self._thread.join()
        if self._temporary:
            self._temporary.cleanup()
        return self._exit_code

    @property
    def returncodes(self) -> dict[str, int | None]:
        """By label: None while running, else as subprocess gives it (-N for signal N)."""
        return {p.spec.label: p.popen.poll() if p.popen else None for p in self._processes}

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of what runs now, by label."""
        return {p.spec.label: p.popen.pid for p in self._processes if p.popen and p.running}

    def check(self) -> None:
        """Raise LaunchError, naming the log, when a process has ended with an error before anyone asked it to end."""
        if self._failures:
            raise LaunchError("; ".join(self._failures))

    def _prepare(self, spec: ProcessSpec) -> _Process:
        files = []
        for index, file in enumerate(spec.parameter_files):
            path = file.path
            if path is None and self._temporary:
                path = Path(self._temporary.name) / f"{spec.label}-{index}.yaml"
                path.write_text(file.content, encoding="utf-8")
            files.append(path or Path())
        log = self._log_dir / f"{spec.label}.log" if self._log_dir else None
        return _Process(spec, tuple(files), log, self._say)

    def _run(self) -> None:
        """The session's thread, which lives as long as any process."""
        try:
            for process in self._processes:
                process.start()
                self._say(f"[launch] started {process.spec.label}, pid {process.popen.pid if process.popen else '?'}")
            self._started.set()
            while not self._stopping.is_set() and not all(p.finished for p in self._processes):
                self._watch()
                self._stopping.wait(POLL_S)
        except LaunchError as error:
            self._error = error
            self._failures.append(str(error))
            self._exit_code = self._exit_code or error.exit_code
        finally:
            self._started.set()
            self._stopping.set()
            self._shut_down()
            self._ended.set()

    def _watch(self) -> None:
        for process in self._processes:
            if process.finished or process.running or process.popen is None:
                continue
            spec, code = process.spec, process.popen.returncode
            if not process.ended_at:
                process.ended_at = time.monotonic()
                process.clean_up()
                self._say(f"[launch] {spec.label} ended with code {code}")
            again = spec.respawn and (spec.respawn_limit < 0 or process.starts <= spec.respawn_limit)
            if again and time.monotonic() - process.ended_at >= spec.respawn_delay_s:
                process.start()
                process.ended_at = 0.0
            elif not again:
                process.finished = True
                self._exit_code = self._exit_code or (128 - code if code < 0 else code)
                if code:
                    said = f": {process.last_line[:MAXIMUM_SAID]}" if process.last_line else ""
                    where = f"; its output: {process.log}" if process.log else ""
                    self._failures.append(f"process {spec.label} ended with code {code}{said}{where}")
                if spec.on_exit_shutdown:
                    self._stopping.set()

    def _shut_down(self) -> None:
        """Each process gets its own timeouts, all at the same time."""
        asked = time.monotonic()
        sent = {process: signal.SIGINT for process in self._processes if process.running}
        for process in sent:
            process.signal_group(signal.SIGINT)
        while any(process.running for process in sent):
            for process, last in sent.items():
                spec, waited = process.spec, time.monotonic() - asked
                term_after = 0.0 if self._hurry.is_set() else spec.sigterm_timeout_s
                if last == signal.SIGINT and waited >= term_after and process.running:
                    self._escalate(process, signal.SIGTERM, sent)
                elif last == signal.SIGTERM and waited >= spec.sigterm_timeout_s + spec.sigkill_timeout_s:
                    self._escalate(process, signal.SIGKILL, sent)
            time.sleep(POLL_S)
        for process in self._processes:
            process.clean_up()
            process.finished = True

    def _escalate(self, process: _Process, number: signal.Signals, sent: dict[_Process, signal.Signals]) -> None:
        if process.running:
            self._say(f"[launch] {process.spec.label} has not ended yet: {number.name}")
            process.signal_group(number)
        sent[process] = number


def run_session(session: LaunchSession) -> int:
    """Run to the end in the main thread; SIGINT, SIGTERM and SIGHUP stop the processes. Returns the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: session.request_stop())
    try:
        session.start()
        code = None
        while code is None:
            code = session.wait(timeout_s=0.5)
        return code
    finally:
        session.stop()
        sys.stdout.flush()
