"""Real-time scheduling of a node's process, where it is asked for and permitted; what came of it, for everyone to see.

SCHED_FIFO lets the node run before every ordinary process. It shortens the tail of the lateness; it is no deadline.
"""

from __future__ import annotations

import ctypes
import os
import resource
from dataclasses import dataclass
from pathlib import Path

PRIORITIES = range(0, 100)
# Pages that are in memory now, and later ones once touched (sys/mman.h): nothing is brought in for it.
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Scheduling:
    """What a process got. `refusal` and `memory` are empty where nothing was refused."""

    priority: int = 0
    refusal: str = ""
    memory: str = ""

    def text(self) -> str:
        """For /diagnostics: `normal`, `SCHED_FIFO 40`, or why not."""
        if self.refusal:
            return f"normal: SCHED_FIFO not permitted: {self.refusal}"
        if not self.priority:
            return "normal"
        return f"SCHED_FIFO {self.priority}, memory {self.memory or 'locked'}"


_current = Scheduling()


def texts() -> dict[str, object]:
    """Keys and values for /diagnostics."""
    return {"scheduling": _current.text()}


def request(priority: int) -> Scheduling:
    """SCHED_FIFO of `priority` (1 to 99) for all threads of this process, and its memory locked; 0 leaves all as it is.

    A refusal is no error: the node runs as it did, and says so.
    """
    global _current
    if priority:
        refusal = _refusal(priority)
        _current = Scheduling(0, refusal) if refusal else Scheduling(priority, "", _lock_memory())
    return _current


def _refusal(priority: int) -> str:
    """Why the threads of this process cannot have `priority`; empty if they have it now."""
    done: list[int] = []
    try:
        for thread in sorted(int(task.name) for task in Path("/proc/self/task").iterdir()):
            try:
                os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))
            except ProcessLookupError:  # a thread that has just ended
                continue
            done.append(thread)
    except OSError as error:
        for thread in done:
            os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
        allowed = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
        return (
            f"{error.strerror}; RLIMIT_RTPRIO allows {allowed} (rtprio in /etc/security/limits.conf, or CAP_SYS_NICE), "
            "and a cgroup may forbid it"
        )
    return ""


def _lock_memory() -> str:
    """Keep pages from being swapped out; why not, or empty."""
    bounded = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != resource.RLIM_INFINITY
    # With a bound, locking the future too would make later allocations fail.
    flags = MCL_CURRENT | MCL_ONFAULT | (0 if bounded and os.geteuid() else MCL_FUTURE)
    library = ctypes.CDLL(None, use_errno=True)
    if library.mlockall(flags):
        return f"not locked: {os.strerror(ctypes.get_errno())} (memlock in /etc/security/limits.conf)"
    return ""
