"""Rows about datasets: imports that are killed, and files that an enemy made."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from sealegs.faults.frame import Fault, Outcome, Trials
from sealegs.faults.hostile import payloads as hostile
from sealegs.faults.tools import stream
from sealegs.faults.tools.children import answer, child, context
from sealegs_contract.errors import MachineError

TASK = "reach"
TICKS = 40
IMAGE_EVERY = 5
LIMIT_MIB = 4096
"""Address space that a process may take to open a hostile dataset; arrow's allocator alone reserves 1 GiB of it."""
IMPORT_S = 60.0
FILE_EVENTS = frozenset({"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"})
LAST_EVENTS = 25
"""File operations at the end of an import, around the change from the old dataset to the new one."""
MIXED = "neither the old dataset nor the new one"
AGAIN_EVERY = 10
"""After one kill in so many the import is run again."""


def make_bag(folder: Path, seed: int, ticks: int = TICKS) -> Path:
    """An episode of the so101 profile with random movements and small images."""
    from sealegs_contract.episode import EpisodeInfo
    from sealegs_contract.episode import Outcome as Episode
    from sealegs_contract.sample import CommandSample, ImageSample, JointSample, PoseSample
    from sealegs_ros.bag import BagWriter

    robot, rng = stream.robot(), np.random.default_rng(seed)
    info = EpisodeInfo(task=TASK, task_text="reach it", robot=robot.name, profile_digest=robot.digest)
    with BagWriter(folder, robot, info) as bag:
        for tick in range(ticks):
            now = tick * robot.control_period_ns
            position = robot.home_rad + rng.normal(0.0, 0.01, len(robot.joint_names))
            for name in robot.objects:
                bag.write(PoseSample(now, name, "base_link", rng.normal(size=3), np.eye(4)[3]), now)
            if tick % IMAGE_EVERY == 0:
                bag.write(ImageSample(now, "front", _jpeg(rng)), now)
            bag.write(JointSample(now, robot.joint_names, position, 0 * position, 0 * position), now)
            bag.write(CommandSample(now, robot.joint_names, position[None], (5 * robot.control_period_ns,)), now)
        bag.close(Episode.SUCCESS)
    return folder


def _jpeg(rng: np.random.Generator) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def import_(bags: list[str], out: str, overwrite: bool = False) -> None:
    """`sealegs import`, with the camera."""
    from sealegs_learning.data.importer import ImportOptions, import_bags

    import_bags(bags, out, ImportOptions(cameras=("front",), overwrite=overwrite))


def content_of(path: str) -> str:
    """Digest of all that is learned from in a dataset, every image decoded."""
    from sealegs_contract.pixels import decode_rgb
    from sealegs_learning.data.dataset import Dataset

    dataset, digest = Dataset.open(path), hashlib.sha256()
    for values in (dataset.state, dataset.action, dataset.episode_index, dataset.stamp_ns):
        digest.update(np.ascontiguousarray(values).tobytes())
    digest.update(repr([(row.start, row.length, row.task_text) for row in dataset.episodes]).encode())
    for camera in dataset.cameras:
        for data in dataset.images(camera, range(len(dataset))):
            decode_rgb(data)
            digest.update(data)
    if dataset.sealegs is not None:
        dataset.verify()
    return digest.hexdigest()


def opened(path: str) -> tuple[str, str]:
    """("read", digest of the content), or ("refused", the reason)."""
    from sealegs_contract.errors import SealegsError

    try:
        return "read", content_of(path)
    except SealegsError as error:
        return "refused", str(error)


def run_hostile(trials: Trials) -> Outcome:
    """Row 31: a dataset is spoiled in one of many ways and read; it is refused, or reads as it did before."""
    good = trials.folder / "good"
    shutil.rmtree(trials.folder, ignore_errors=True)
    import_([str(make_bag(trials.folder / "bag", 0))], str(good))
    before = content_of(str(good))
    control = answer(opened, str(good), limit_mib=LIMIT_MIB)
    if control.value != ("read", before):
        raise MachineError(f"the good dataset cannot be read: {control.error or control.value}")
    wrong: list[str] = []
    peaks: list[float] = []
    for trial in range(trials.count):
        spoil, folder = hostile.SPOILS[trial % len(hostile.SPOILS)], trials.folder / f"trial{trial}"
        shutil.copytree(good, folder / "dataset")
        (folder / "outside").mkdir()
        spoil(folder / "dataset", folder / "outside", np.random.default_rng(trial))
        there = sorted(path for path in folder.rglob("*"))
        found = answer(opened, str(folder / "dataset"), limit_mib=LIMIT_MIB)
        reason = found.error or _not_as_required(found.value, before)
        if sorted(path for path in folder.rglob("*")) != there:
            reason = "something was executed, or written"
        if reason:
            wrong.append(f"trial {trial} ({spoil.__name__}): {reason}")
        peaks.append(found.peak_mib)
        shutil.rmtree(folder)
        trials.progress(trial + 1, trials.count)
    kinds = ", ".join(spoil.__name__.replace("_", " ") for spoil in hostile.SPOILS)
    return Outcome(trials.count, len(wrong), peaks, [f"Kinds: {kinds}.", *wrong[:3]])


def _not_as_required(found: tuple[str, str], before: str) -> str:
    what, said = found
    if what == "refused":
        return "" if said and "\n" not in said else f"no plain reason: {said!r}"
    return "" if said == before else "read with another content"


def run_killed_import(trials: Trials) -> Outcome:
    """Row 30: an import that merges three bags over an older dataset is killed; the old or the new one can be opened.

    Kills strike at moments of chance, before file operations of chance, and before those of the end, which rename.
    """
    shutil.rmtree(trials.folder, ignore_errors=True)
    bags = [str(make_bag(trials.folder / "bags" / f"e{seed}", seed)) for seed in range(3)]
    old, new = trials.folder / "old", trials.folder / "new"
    import_(bags[:1], str(old))
    events, seconds = _watched_import(bags, new)
    wanted = {content_of(str(old)): "old", content_of(str(new)): "new"}
    wrong: list[str] = []
    mixed: list[float] = []
    seen = {"old": 0, "new": 0}
    for trial in range(trials.count):
        rng = np.random.default_rng(trial)
        out = trials.folder / f"trial{trial}" / "dataset"
        shutil.copytree(old, out)
        at = [0, int(rng.integers(1, events + 1)), int(rng.integers(events - LAST_EVENTS, events + 1))][trial % 3]
        _killed_import(bags, out, at, rng.uniform(0.0, seconds))
        what, said = opened(str(out))
        found = wanted.get(said, MIXED) if what == "read" else said
        mixed.append(float(found == MIXED))
        if found in seen:
            seen[found] += 1
            found = ""
        if not found and trial % AGAIN_EVERY == 0:
            found = _again(bags, out, wanted)
        if found:
            wrong.append(f"trial {trial}: {found}")
        shutil.rmtree(out.parent)
        trials.progress(trial + 1, trials.count)
    note = f"{seen['old']} kills left the old dataset, {seen['new']} the new one."
    return Outcome(trials.count, len(wrong), mixed, [note, *wrong[:3]])


def _watched_import(bags: list[str], out: Path) -> tuple[int, float]:
    """An import that is left alone: its file operations, and the seconds from the first of them to the end."""
    counted = context().RawArray("q", 1)
    shutil.copytree(out.with_name("old"), out)
    with child(_import_and_die, bags, str(out), 0, counted) as process:
        began = _begun(counted)
        process.join(IMPORT_S)
        if process.exitcode != 0:
            raise MachineError(f"the import ended with code {process.exitcode}")
    return counted[0], time.monotonic() - began


def _killed_import(bags: list[str], out: Path, at: int, after_s: float) -> None:
    """Kill an import at its file operation number `at`; with 0, `after_s` from the first. It may end before."""
    counted = context().RawArray("q", 1)
    with child(_import_and_die, bags, str(out), at, counted) as process:
        if at:
            process.join(IMPORT_S)
        else:
            _begun(counted)
            time.sleep(after_s)
        process.kill()


def _begun(counted: Any) -> float:
    """When the first file operation was seen."""
    deadline = time.monotonic() + IMPORT_S
    while not counted[0]:
        if time.monotonic() > deadline:
            raise MachineError(f"the import did not begin within {IMPORT_S:g} s")
        time.sleep(0.001)
    return time.monotonic()


def _import_and_die(bags: list[str], out: str, at: int, counted: Any) -> None:
    """Import, counting what Python does to files, and kill this process before operation `at`."""

    def hook(event: str, _: tuple[Any, ...]) -> None:
        if event in FILE_EVENTS:
            counted[0] += 1
            if counted[0] == at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    import_(bags, out, overwrite=True)


def _again(bags: list[str], out: Path, wanted: dict[str, str]) -> str:
    """Import once more after a kill; why that did not put everything right."""
    import_(bags, str(out), overwrite=True)
    left = sorted(path.name for path in out.parent.iterdir())
    if wanted.get(content_of(str(out))) != "new":
        return "the next import did not give the new dataset"
    return "" if left == [out.name] else f"the next import left {', '.join(left)}"


FAULTS: tuple[Fault, ...] = (
    Fault(
        30, "kill -9 of an import that merges bags", "leave the old dataset or the new one", 200, 12,
        run_killed_import, "mixed datasets", "== 0",
    ),
    Fault(
        31, "hostile dataset files", "refuse them with a plain reason and execute nothing", 210, 14, run_hostile,
        "peak MiB", settings={"kinds": len(hostile.SPOILS), "limit_mib": LIMIT_MIB},
    ),
)  # fmt: skip
