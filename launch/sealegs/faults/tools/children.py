"""Processes to kill: forked from a clean server that has imported what they need, so that hundreds are cheap."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

PRELOADED = (
    "sealegs.faults.tools.stream",
    "sealegs.faults.rows.bundle_bombs",
    "onnx",
    "onnxruntime",
    "sealegs_ros.recording",
    "sealegs_learning.data.importer",
    "sealegs_learning.judge.endpoint",
    "sealegs_learning.judge.label",
)
MIB = 2**20


@cache
def context() -> ForkServerContext:
    """Where children come from. What cannot be imported on this machine is left to the child that wants it."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(list(PRELOADED))
    return found


@contextmanager
def child(function: Callable[..., None], *arguments: Any) -> Iterator[ForkServerProcess]:
    """`function(*arguments)` in a process of its own, which is killed at the end, however that comes."""
    process = context().Process(target=function, args=arguments, daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()
        process.close()


@dataclass(frozen=True)
class Answer:
    """What came of a function in a process of its own."""

    value: Any = None
    error: str = ""
    """`DatasetError: ...`; how the process ended, where it gave no answer."""
    peak_mib: float = 0.0
    """Peak memory above what the process began with."""


def answer(function: Callable[..., Any], *arguments: Any, limit_mib: int, timeout_s: float = 60.0) -> Answer:
    """`function(*arguments)` in a process that may take `limit_mib` of address space more than it begins with."""
    ours, theirs = context().Pipe(duplex=False)
    with child(_answering, theirs, limit_mib, function, arguments) as process:
        theirs.close()
        try:
            found: Answer = ours.recv() if ours.poll(timeout_s) else Answer(error=f"no answer within {timeout_s:g} s")
        except EOFError:
            process.join()
            found = Answer(error=f"the process ended with code {process.exitcode}")
    ours.close()
    return found


def _answering(
    connection: Connection, limit_mib: int, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    space, before = _memory_bytes()
    limit = space + limit_mib * MIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    value, error = None, ""
    try:
        value = function(*arguments)
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    connection.send(Answer(value, error, max(0, peak - before) / MIB))


def _memory_bytes() -> tuple[int, int]:
    """Address space and resident memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as stream:
        pages = stream.read().split()
    return int(pages[0]) * resource.getpagesize(), int(pages[1]) * resource.getpagesize()
