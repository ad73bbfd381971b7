"""Bench `resume`: `sealegs train` killed with SIGKILL at moments of chance, resumed, compared with a run left alone.

Compared are the bytes of the weights file (learner, optimiser, generators, simulators) and the learning curve but for
its wall seconds.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sealegs.bench.frame import Bench, Cell, CellContext, Row, Summary, Table
from sealegs.bench.options import BenchOptions
from sealegs_contract.errors import MachineError
from sealegs_learning.results import Claim

DATA, LEARNERS = "data", ("iql", "ppo")
POLL_S = 0.01
ATTEMPTS = 20


def cells(options: BenchOptions) -> list[Cell]:
    """The logs, then learner x seed."""
    settings = (
        {"updates": 600, "kills": 1, "every": 100} if options.quick else {"updates": 1500, "kills": 2, "every": 150}
    )
    found = [Cell(DATA, settings={"episodes": 4 if options.quick else 12})]
    for seed in options.seeds_or((0, 1, 2)):
        found += [Cell(learner, "reach", seed, settings, stage=1) for learner in LEARNERS]
    return found


def run_cell(cell: Cell, context: CellContext) -> dict[str, Any]:
    """How often the run was killed, how many updates were lost by it, and whether it ended the same."""
    if cell.arm == DATA:
        _make_data(context.folder, cell.settings["episodes"])
        return {}
    whole, killed = context.folder / "whole", context.folder / "killed"
    for out in (whole, killed):
        shutil.rmtree(out, ignore_errors=True)
    arguments = _arguments(cell, context.folder_of(DATA, "all", 0) / "dataset")
    _finish(_start([*arguments, "--out", str(whole)]))
    chance, lost = random.SystemRandom(), list[int]()
    for _ in range(ATTEMPTS):
        if len(lost) == cell.settings["kills"]:
            break
        process = _start([*arguments, "--out", str(killed), "--resume"])
        beyond = _kill(process, killed, chance.uniform(0.1, 0.9) * cell.settings["updates"], chance.uniform(0.0, 0.05))
        lost += [] if beyond is None else [beyond]
        if beyond is None:  # it came to its end first
            shutil.rmtree(killed)
            lost = []
        context.progress(len(lost), cell.settings["kills"])
    _finish(_start([*arguments, "--out", str(killed), "--resume"]))
    weights = [(out / "checkpoint" / "weights.safetensors").read_bytes() for out in (whole, killed)]
    return {
        "kills": len(lost),
        "updates_lost": sum(lost),
        "weights_equal": float(weights[0] == weights[1]),
        "curve_equal": float(_curve(whole) == _curve(killed)),
        "bytes": len(weights[0]),
    }


def _make_data(folder: Path, episodes: int) -> None:
    from sealegs.cli import main

    shutil.rmtree(folder / "bags", ignore_errors=True)
    collect = ["collect", "--task", "reach", "--policy", "mixed", "--episodes", str(episodes), "--no-images"]
    for command in ([*collect, "--out", str(folder / "bags")], _import(folder)):
        if main(command):
            raise MachineError(f"sealegs {' '.join(command)} failed")


def _import(folder: Path) -> list[str]:
    shutil.rmtree(folder / "dataset", ignore_errors=True)
    return ["import", str(folder / "bags"), "--out", str(folder / "dataset")]


def _arguments(cell: Cell, dataset: Path) -> list[str]:
    updates, every = str(cell.settings["updates"]), str(cell.settings["every"])
    words = ["--learner", cell.arm, "--seed", str(cell.seed), "--hidden", "64", "64", "--batch-size", "64"]
    words += ["--log-every", "50", "--checkpoint-every", every]
    if cell.arm == "ppo":
        return [*words, "--task", "reach", "--ppo.steps", updates, "--ppo.envs", "2", "--ppo.horizon", "25"]
    return [*words, "--dataset", str(dataset), "--updates", updates]


def _start(arguments: Sequence[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sealegs", "train", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _finish(process: subprocess.Popen[str]) -> None:
    said, _ = process.communicate()
    if process.returncode:
        raise MachineError(f"the training failed: {' '.join(said.split())[-500:]}")


def _kill(process: subprocess.Popen[str], out: Path, moment: float, delay_s: float) -> int | None:
    """SIGKILL `delay_s` after the curve has come to `moment`; the updates beyond the checkpoint. None: too late."""
    from sealegs.training.runs import units_done
    from sealegs_learning.files import settled
    from sealegs_learning.training.checkpoint import load_checkpoint

    while process.poll() is None and units_done(out) < moment:
        time.sleep(POLL_S)
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if process.returncode != -signal.SIGKILL:
        return None
    folder = settled(out / "checkpoint")
    return units_done(out) - (load_checkpoint(folder).update if folder.exists() else 0)


def _curve(out: Path) -> list[dict[str, Any]]:
    from sealegs_learning.training.run import read_curve

    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_curve(out / "train.jsonl")]


def summarise(rows: Sequence[Row], options: BenchOptions) -> Summary:
    """Share of the runs that ended the same, and how often they were killed."""
    runs = [row for row in rows if row["arm"] in LEARNERS]
    share = {key: sum(row[key] for row in runs) / len(runs) for key in ("weights_equal", "curve_equal")}
    kills = sum(row["kills"] for row in runs)
    claims = [
        Claim(
            "killed runs whose weights are those of a run left alone, byte for byte (share)",
            share["weights_equal"],
            "== 1",
        ),
        Claim("killed runs whose learning curve is that of a run left alone (share)", share["curve_equal"], "== 1"),
        Claim("kills at moments of chance, per run", kills / len(runs), ">= 1"),
    ]
    columns = ("learner", "seed", "kills", "updates made again", "weights equal", "curve equal")
    keys = ("arm", "seed", "kills", "updates_lost", "weights_equal", "curve_equal")
    table = Table("Runs", columns, [[row[key] for key in keys] for row in runs])
    note = (
        "Kills are SIGKILL, which no process can catch: nothing is saved on the way out. The moments are not seeded, "
        "so every repetition tries others."
    )
    return Summary(claims, tables=[table], notes=[note])


BENCH = Bench(cells, run_cell, summarise)
