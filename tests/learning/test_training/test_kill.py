"""`sealegs train` killed with SIGKILL at moments of chance, resumed, and compared with a run that was left alone."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sealegs.cli import main
from sealegs_learning.files import settled
from sealegs_learning.training.checkpoint import load_checkpoint
from sealegs_learning.training.run import read_curve

UPDATES = 1000
SMALL = ["--hidden", "32", "32", "--batch-size", "64", "--log-every", "25", "--checkpoint-every", "150"]
OFFLINE = [*SMALL, "--learner", "iql", "--updates", str(UPDATES), "--tensorboard"]
PPO = ["--learner", "ppo", "--task", "reach", "--ppo.steps", str(UPDATES), "--ppo.envs", "2", "--ppo.horizon", "25"]
ONLINE = [*SMALL, *PPO]


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sealegs", "train", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def kill_when(process: subprocess.Popen[bytes], out: Path, update: int, delay_s: float) -> bool:
    """SIGKILL `delay_s` after the curve has come to `update`; whether it struck before the run was over."""
    curve = out / "train.jsonl"
    while process.poll() is None:
        rows = read_curve(curve)
        if rows and rows[-1].get("update", rows[-1].get("step")) >= update:
            break
        time.sleep(0.005)
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def scalars(out: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(out / "tensorboard"))
    board.Reload()
    return {tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in board.Tags()["scalars"]}


@pytest.mark.parametrize("learner", ["iql", "ppo"])
def test_a_run_killed_at_random_ends_with_the_same_bytes(reach_dataset: Path, tmp_path: Path, learner: str) -> None:
    arguments = ONLINE if learner == "ppo" else [*OFFLINE, "--dataset", str(reach_dataset)]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(["train", *arguments, "--out", str(whole)]) == 0

    chance = random.Random(os.urandom(8))
    resumed = [*arguments, "--out", str(killed), "--resume"]
    # On a busy machine a kill may come after the end: then once more.
    for _ in range(5):
        moment, delay_s = chance.uniform(0.2, 0.7), chance.uniform(0.0, 0.02)
        struck = kill_when(start(resumed), killed, int(moment * UPDATES), delay_s)
        if struck and load_checkpoint(settled(killed / "checkpoint")).update < UPDATES:
            break
        shutil.rmtree(killed)
    assert load_checkpoint(settled(killed / "checkpoint")).update < UPDATES, "no kill struck in time"
    assert main(["train", *resumed]) == 0

    weights = [(out / "checkpoint" / "weights.safetensors").read_bytes() for out in (whole, killed)]
    assert weights[0] == weights[1]
    curves = [read_curve(out / "train.jsonl") for out in (whole, killed)]
    for row in (row for curve in curves for row in curve):
        row.pop("seconds")
    assert curves[0] == curves[1]
    assert sorted(path.name for path in killed.iterdir() if path.name.startswith(".")) == [".lock"], (
        "a killed write left something"
    )
    if learner == "iql":
        # Scalars that a killed process wrote beyond its checkpoint are dropped: each step is there once.
        boards = scalars(killed)
        assert boards == scalars(whole)
        assert [step for step, _ in boards["q_loss"]] == list(range(25, UPDATES + 1, 25))
