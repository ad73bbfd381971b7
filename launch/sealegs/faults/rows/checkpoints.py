"""The row about damaged checkpoints: files cut off or flipped, and SIGKILL while one is being written."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sealegs.faults.frame import Fault, Outcome, Trials
from sealegs_contract.errors import MachineError, SealegsError
from sealegs_learning.files import clear_leftovers
from sealegs_learning.training import checkpoint as checkpoints
from sealegs_learning.training.checkpoint import JSON_NAME, WEIGHTS_NAME, load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from sealegs_learning.training.config import TrainConfig

STEPS, EVERY, STOPPED = 192, 64, 160
KEPT = 3
NUMBERS = 20_000
SAVES_BEFORE = 2
LONGEST_S = 0.05


class _StopError(Exception):
    """Ends a training as a crash would, after a checkpoint and before the next."""


def damage_checkpoints(trials: Trials) -> Outcome:
    """Row 36: every other trial a file of the newest checkpoint is damaged, and the training resumed to its end, which
    must have the very weights of a run that was left alone; in the others the writer is killed.
    """
    shutil.rmtree(trials.folder, ignore_errors=True)
    lost: list[float] = []
    wrong: list[str] = []
    with _quiet():
        torch.set_num_threads(1)
        config = _prepare(trials.folder)
        for trial in range(trials.count):
            chance, folder = random.Random(trial), trials.folder / "trial"
            shutil.rmtree(folder, ignore_errors=True)
            try:
                said, gone = _damaged(config, folder, chance) if trial % 2 == 0 else _killed(folder, chance)
            except SealegsError as error:
                said, gone = f"{type(error).__name__}: {error}", 0
            if said:
                wrong.append(f"trial {trial}: {said}")
            lost.append(float(gone))
            trials.progress(trial + 1, trials.count)
    used = f"In {sum(lost):.0f} of {trials.count} trials the checkpoint before the newest was used."
    return Outcome(trials.count, len(wrong), lost, [used, *wrong[:KEPT]])


def _prepare(folder: Path) -> TrainConfig:
    """A training that was left alone, in `whole`, and the same one that stopped after its second checkpoint."""
    from sealegs_learning.learners.settings import PPOSettings
    from sealegs_learning.train import train
    from sealegs_learning.training.config import TrainConfig

    def stop(done: int, total: int, figures: object) -> None:
        if done >= STOPPED:
            raise _StopError

    config = TrainConfig(
        folder / "whole", task="reach", learner="ppo", hidden=(16,), batch_size=16, log_every=EVERY // 2,
        checkpoint_every=EVERY, ppo=PPOSettings(steps=STEPS, envs=2, horizon=16, epochs=1),
    )  # fmt: skip
    train(config)
    try:
        train(replace(config, out=folder / "stopped"), stop)
    except _StopError:
        return config
    raise MachineError(f"the training in {folder} came to its end without being stopped")


def _damaged(config: TrainConfig, folder: Path, chance: random.Random) -> tuple[str, int]:
    """What is wrong after damage to a file of the newest checkpoint, if anything is, and the checkpoints lost by it."""
    from sealegs_learning.train import train

    shutil.copytree(config.out.with_name("stopped"), folder)
    newest = load_checkpoint(folder).update
    files = sorted(path for path in (folder / "checkpoint").iterdir())
    file = chance.choice([*files, folder / "checkpoint" / WEIGHTS_NAME, folder / "checkpoint" / JSON_NAME])
    what = f"{file.name} {damage(file, chance)}"
    found = load_checkpoint(folder)
    gone = (newest - found.update) // EVERY
    if gone not in (0, 1):
        return f"{what}: went back from {newest} to {found.update}", gone
    train(replace(config, out=folder, resume=True))
    same = [(out / "checkpoint" / WEIGHTS_NAME).read_bytes() for out in (config.out, folder)]
    return ("" if same[0] == same[1] else f"{what}: resumed from {found.update}, ended with other weights"), gone


def damage(file: Path, chance: random.Random) -> str:
    """Cut `file` off at a place of chance, flip one to eight of its bits, or fill its end with zeros; which."""
    content = bytearray(file.read_bytes())
    place = chance.randrange(len(content))
    way = chance.choice(("cut off", "flipped", "zeroed"))
    if way == "cut off":
        del content[place:]
    elif way == "zeroed":
        content[place:] = bytes(len(content) - place)
    else:
        for _ in range(chance.randint(1, 8)):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)
    return f"{way} at byte {place}"


def _killed(folder: Path, chance: random.Random) -> tuple[str, int]:
    """As `_damaged`, for a writer that is killed; then the newest one that it left is cut off too."""
    context = multiprocessing.get_context("fork")
    saved = context.Value("q", 0, lock=False)
    writer = context.Process(target=_save_on, args=(folder / "checkpoint", saved))
    writer.start()
    try:
        while writer.is_alive() and saved.value < SAVES_BEFORE:
            time.sleep(1e-3)
        time.sleep(chance.uniform(0.0, LONGEST_S))
    finally:
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()
    acknowledged = int(saved.value)
    found = load_checkpoint(folder)
    problems = _mixed(found)
    if found.update not in (acknowledged, acknowledged + 1):
        problems.append(f"{acknowledged} were written, {found.update} is there")
    clear_leftovers(folder)
    names = sorted(path.name for path in folder.iterdir())
    if not set(names) <= {"checkpoint", "checkpoint.old"}:
        problems.append(f"left behind: {names}")
    if found.folder.name == "checkpoint" and len(names) == 2:
        weights = found.folder / WEIGHTS_NAME
        weights.write_bytes(weights.read_bytes()[: chance.randrange(8 * NUMBERS)])
        before = load_checkpoint(folder)
        problems += _mixed(before)
        if before.update != found.update - 1:
            problems.append(f"{found.update} was cut off, {before.update} came in its place")
    return "; ".join(problems), 0


def _save_on(folder: Path, saved: object) -> None:
    """Checkpoint after checkpoint, each with its own number throughout, until killed."""
    update = 0
    while True:
        update += 1
        save_checkpoint(folder, {"update": update}, {"numbers": torch.full((NUMBERS,), update, dtype=torch.int64)})
        saved.value = update  # type: ignore[attr-defined]


def _mixed(found: checkpoints.Checkpoint) -> list[str]:
    """Whether the numbers of one save are in the folder of another."""
    right = bool((found.tensors["numbers"] == found.update).all())
    return [] if right else [f"{found.folder} mixes two checkpoints"]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without a warning line for each damage, of which there are hundreds."""
    logger = logging.getLogger(checkpoints.__name__)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


FAULTS: Sequence[Fault] = (
    Fault(
        36, "truncated or damaged checkpoint, SIGKILL while one is written", "go on from the newest whole one", 200, 8,
        damage_checkpoints, "checkpoints lost", "<= 1",
    ),
)  # fmt: skip
