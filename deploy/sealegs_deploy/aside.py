"""Aside: a second thread, of low priority, for long computations that must cost the control thread nothing.

Only computations that release Python's lock: a thread of low priority that is preempted while it holds the lock keeps
the control thread waiting, on a busy machine for tens of milliseconds.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

Job = Callable[[], object]

LONG_NS = 2_000_000
"""What took this long the last time is done aside. Less is not worth the way there and back."""
NICENESS = 19
"""The lowest priority. At 10, half of what a heavy candidate costs the policy's latency was still there."""

_own = threading.local()


class Aside:
    """One thread of low priority. A thread that has entered this does long computations in it, and waits for them."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._done: SimpleQueue[Exception | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> None:
        _own.aside = self

    def __exit__(self, *_: object) -> None:
        _own.aside = None

    def run(self, job: Job) -> None:
        """Do `job`, and wait for it; raises what it raised."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="aside", daemon=True)
            self._thread.start()
        self._jobs.put(job)
        error = self._done.get()
        if error is not None:
            raise error

    def close(self) -> None:
        """End the thread, after what it does now."""
        self._jobs.put(None)

    def _serve(self) -> None:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # a real-time node's threads begin as real-time
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while (job := self._jobs.get()) is not None:
            error = None
            try:
                job()
            except Exception as raised:
                error = raised
            self._done.put(error)


def considerate(job: Job, last_ns: int) -> int:
    """Do `job`, which took `last_ns` the last time: where that is long, in the Aside that this thread has entered.

    What it took now; 0, not measured, outside of an Aside.
    """
    aside: Aside | None = getattr(_own, "aside", None)
    if aside is None:
        job()
        return 0
    began = time.perf_counter_ns()
    if last_ns < LONG_NS:
        job()
    else:
        aside.run(job)
    return time.perf_counter_ns() - began
