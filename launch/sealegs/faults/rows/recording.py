"""Rows about the recorder: killed, with the disk full or refusing, and with a slow disk."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sealegs.faults.frame import Fault, Outcome, Trials
from sealegs.faults.live.recorder_node import fill_disk, fill_up, kill_node
from sealegs.faults.tools import stream
from sealegs.faults.tools.children import answer, child, context
from sealegs_contract.errors import MachineError

KILL_WITHIN_S = 0.5
"""A kill strikes at a moment of chance within this time of the first message."""
START_S = 60.0
NODE_EVERY = 20
"""One trial in so many is made with nodes."""
SLOW_S = 0.01
SLOW_QUEUE = 100
LIMIT_MIB = 8192


@dataclass(frozen=True)
class Prefix:
    """What the product's reader found in a bag; `wrong` says why that is not the beginning of what was sent."""

    messages: int = 0
    newest_ns: int = 0
    wrong: str = ""


def read_prefix(folder: Path, seed: int) -> Prefix:
    """Compare a bag that may end anywhere with the stream that went in, byte by byte."""
    from sealegs_contract.errors import BagError
    from sealegs_learning.data.bag import Bag

    if not any(folder.glob("*.mcap")):
        return Prefix()  # struck before there was a bag
    count = newest = 0
    try:
        bag = Bag(folder)
        if bag.metadata()[0] != stream.episode():
            return Prefix(wrong="the bag does not say what was recorded")
        for read, (_, topic, _, data) in zip(bag.raw_messages(), stream.messages(seed), strict=False):
            if (read.topic, read.data) != (topic, data):
                return Prefix(count, newest, f"message {count} is another than the one sent")
            count, newest = count + 1, read.log_time_ns
    except BagError as error:
        return Prefix(count, newest, str(error))
    return Prefix(count, newest)


def run_kills(trials: Trials, flush_ms: float | None = None) -> Outcome:
    """Row 27: SIGKILL of the recorder's writer, in a process of its own, while messages come at the robot's rates.

    Every `NODE_EVERY`th trial kills a recorder node that records a robot node. `flush_ms` replaces the recorder's own.
    """
    lost_ms: list[float] = []
    wrong: list[str] = []
    for trial in range(trials.count):
        folder, node = trials.folder / f"killed{trial}", trial % NODE_EVERY == NODE_EVERY - 1
        if node:
            lost, reason = kill_node(folder, np.random.default_rng(trial).uniform(0.0, KILL_WITHIN_S))
        else:
            first, last = _strike(folder, trial, flush_ms)
            prefix = read_prefix(folder, trial)
            lost, reason = max(0, last - (prefix.newest_ns or first)) / 1e6, prefix.wrong
        if reason:
            wrong.append(f"trial {trial}{' (recorder node)' if node else ''}: {reason}")
        lost_ms.append(lost)
        trials.progress(trial + 1, trials.count)
    return Outcome(trials.count, len(wrong), lost_ms, wrong[:3])


def _strike(folder: Path, seed: int, flush_ms: float | None) -> tuple[int, int]:
    """Kill a writer; when it took its first and its last message, in ns."""
    pushed = context().RawArray("q", 2)
    with child(_record, str(folder), seed, flush_ms, pushed) as writer:
        deadline = time.monotonic() + START_S
        while not pushed[1] and writer.is_alive() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(np.random.default_rng(seed).uniform(0.0, KILL_WITHIN_S))
        if not writer.is_alive() or not pushed[1]:
            raise MachineError(f"the writer ended by itself with code {writer.exitcode}")
        writer.kill()
        writer.join()
    return pushed[0], pushed[1]


def _record(folder: str, seed: int, flush_ms: float | None, pushed: Any) -> None:
    """Hand the stream at its own pace to the writer of the recorder node, for ever."""
    from sealegs_ros.bag import FLUSH_MS, BagWriter
    from sealegs_ros.recording import EpisodeWriter, RawMessage
    from sealegs_ros.runtime import THREAD_SWITCH_S

    sys.setswitchinterval(THREAD_SWITCH_S)  # as every node does
    writer = EpisodeWriter()
    make_bag = partial(BagWriter, Path(folder), stream.robot(), stream.episode(), flush_ms=flush_ms or FLUSH_MS)
    writer.start(make_bag)
    began = time.monotonic_ns()
    for tick, topic, type_name, data in stream.messages(seed):
        while (ahead_ns := began + tick * stream.robot().control_period_ns - time.monotonic_ns()) > 0:
            time.sleep(ahead_ns / 1e9)
        now = time.monotonic_ns()
        if not writer.push(RawMessage(topic, type_name, data, now, now)):
            raise RuntimeError("the queue is full")
        pushed[0], pushed[1] = pushed[0] or now, now


def run_full_disk(trials: Trials) -> Outcome:
    """Row 28: the disk refuses in the middle of an episode, or when it is closed; what was written stays as it was.

    Every `NODE_EVERY`th trial does it to a recorder node, hears its alarm, and watches the robot node go on.
    """
    wrong: list[str] = []
    alarms_ms: list[float] = []
    notes = ["An error of the medium itself (EIO) was not made here; it takes the way of every refused write."]
    for trial in range(trials.count):
        folder, size = trials.folder / f"full{trial}", int(np.random.default_rng(trial).integers(100, 600)) * 1024
        node = trial % NODE_EVERY == NODE_EVERY - 1
        with small_disk(folder / "disk", 4 * size if node else size) as mounted:
            kind = ("disk", "closing", "file limit")[trial % 3] if mounted else "file limit"
            if node and mounted:
                took_ms, reason = fill_disk(folder, folder / "disk")
                alarms_ms.append(took_ms)
            else:
                found = answer(_fill, str(folder / "disk" / "e"), trial, kind, size, limit_mib=LIMIT_MIB)
                reason = found.error or _damage(folder / "disk" / "e", trial, *found.value)
        if not mounted and len(notes) == 1:
            notes.append("No small disk could be mounted: writes were refused by a limit on the file's size.")
        if reason:
            wrong.append(f"trial {trial} ({'recorder node' if node else kind}): {reason}")
        trials.progress(trial + 1, trials.count)
    return Outcome(trials.count, len(wrong), alarms_ms, [*notes, *wrong[:3]])


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[bool]:
    """A disk of `size` bytes at `folder`; false, and a common folder, where mounting is refused."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "sealegs-faults", str(folder)]
    try:
        mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True, capture_output=True)


def _fill(folder: str, seed: int, kind: str, size: int) -> tuple[str, str]:
    """Write until refused; the digest of the file after the last flush that succeeded, and the error."""
    from sealegs_contract.episode import Outcome as Episode
    from sealegs_contract.errors import BagError
    from sealegs_ros.bag import BagWriter

    if kind == "file limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    bag = BagWriter(folder, stream.robot(), stream.episode(), flush_ms=0.0)
    path, error, kept, written = bag.folder / bag.file_name, "", hashlib.sha256(), 0
    with path.open("rb") as reader:
        kept.update(reader.read())
        for tick, topic, type_name, data in stream.messages(seed):
            if kind == "closing" and written > size // 2:
                break
            try:
                bag.write_raw(topic, type_name, data, tick)
            except BagError as refused:
                error = str(refused)
                break
            written += len(data)
            kept.update(reader.read())
    if kind == "closing":
        fill_up(bag.folder.parent / "ballast")
    try:
        bag.close(Episode.SUCCESS)
    except BagError as refused:
        error = error or str(refused)
    return kept.hexdigest(), error


def _damage(folder: Path, seed: int, kept: str, error: str) -> str:
    """Why the bag is not what it was before the disk refused, or nothing."""
    if not error:
        return "nobody was told that the disk refused"
    (path,) = folder.glob("*.mcap")
    if hashlib.sha256(path.read_bytes()).hexdigest() != kept:
        return "the bag differs from what was written before the disk refused"
    if (folder / "metadata.yaml").exists():
        return "the bag looks finished"
    prefix = read_prefix(folder, seed)
    return prefix.wrong or ("" if prefix.messages else "the bag is empty")


def run_slow_disk(trials: Trials) -> Outcome:
    """Row 29: a disk far slower than the stream; every message is in the bag, or in the bag's own count of drops."""
    unexplained: list[float] = []
    wrong: list[str] = []
    for trial in range(trials.count):
        folder = trials.folder / f"slow{trial}"
        found = answer(_record_slowly, str(folder), trial, limit_mib=LIMIT_MIB)
        gaps = float("inf") if found.error else float(_unexplained(folder, found.value))
        if found.error or gaps:
            wrong.append(f"trial {trial}: {found.error or f'{gaps:.0f} messages are neither there nor counted'}")
        unexplained.append(gaps)
        trials.progress(trial + 1, trials.count)
    note = f"The disk is slowed where Python hands it bytes: {1e3 * SLOW_S:g} ms on every write."
    return Outcome(trials.count, len(wrong), unexplained, [note, *wrong[:3]])


def _record_slowly(folder: str, seed: int) -> dict[str, int]:
    """Messages by topic that were handed to a recorder whose disk is slow, in bursts."""
    from sealegs_contract.episode import Outcome as Episode
    from sealegs_ros.bag import BagWriter
    from sealegs_ros.recording import EpisodeWriter, RawMessage

    rng, real, sent = np.random.default_rng(seed), os.write, Counter[str]()

    def slow(handle: int, data: bytes) -> int:
        time.sleep(SLOW_S)
        return real(handle, data)

    os.write = slow  # type: ignore[assignment]
    writer = EpisodeWriter(SLOW_QUEUE)
    writer.start(partial(BagWriter, Path(folder), stream.robot(), stream.episode(), flush_ms=0.0))
    last = int(rng.integers(40, 80))
    for tick, topic, type_name, data in stream.messages(seed):
        if tick == last:
            break
        if rng.random() < 0.02:
            time.sleep(rng.uniform(0.0, 0.05))
        writer.push(RawMessage(topic, type_name, data, tick, tick))
        sent[topic] += 1
    writer.stop(Episode.SUCCESS)
    writer.shutdown()
    writer.check()
    return dict(sent)


def _unexplained(folder: Path, sent: dict[str, int]) -> int:
    """Messages that are neither in the bag nor in its count of drops, over all topics; too many count as well."""
    from sealegs_learning.data.bag import METADATA_NAME, Bag
    from sealegs_learning.data.mcap_file import McapFile

    bag = Bag(folder)
    there = bag.topics()
    drops = json.loads(McapFile(bag.files[0]).read_metadata()[METADATA_NAME]["drops"])
    return sum(abs(count - there[topic] - drops.get(f"{topic} queue", 0)) for topic, count in sent.items())


FAULTS: tuple[Fault, ...] = (
    Fault(27, "kill -9 of the recorder", "leave a readable bag", 200, 20, run_kills, "ms lost", "<= 100"),
    Fault(
        28, "full disk, or one that refuses", "keep what was written, raise the alarm and let the robot go on",
        100, 20, run_full_disk, "ms to the alarm",
    ),
    Fault(29, "slow disk", "count every drop", 20, 3, run_slow_disk, "unexplained gaps", "== 0"),
)  # fmt: skip
