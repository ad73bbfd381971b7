"""Worker: one thread beside the control loop, for what may take longer than the idle part of a period."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

Job = Callable[[], None]


class Worker:
    """Does jobs one after the other. `on_error` gets, on that thread, what a job raises; the next job goes on."""

    def __init__(self, name: str, on_error: Callable[[Exception], None]) -> None:
        self._jobs: deque[Job] = deque()
        self._on_error = on_error
        self._running = False
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Whether every job is done."""
        return not (self._jobs or self._running)

    def submit(self, job: Job) -> None:
        """Queue `job`. Never waits for one."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Whether every job is done within `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: self.idle, timeout_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """End after the job that runs now, and drop the others."""
        with self._changed:
            self._closed = True
            self._jobs.clear()
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._running = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._jobs) or self._closed)
                if self._closed:
                    return
                self._running = True
                job = self._jobs.popleft()
            try:
                job()
            except Exception as error:
                self._on_error(error)
