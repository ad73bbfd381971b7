"""Bench `resume`: `sealegs train` killed with SIGKILL at moments of chance, resumed, compared with a run left alone.

Every learner, and every way of going on from a policy. Compared are the bytes of the weights file (learner, optimiser,
generators, simulators) and the learning curve but for its wall seconds.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sealegs.bench import plots
from sealegs.bench.frame import Bench, Cell, CellContext, Row, Summary, Table
from sealegs.bench.options import BenchOptions
from sealegs_contract.errors import MachineError
from sealegs_learning.results import Claim

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DATA, SEEN_DATA = "data", "data with images"
POLL_S = 0.01
ATTEMPTS = 20
TOTAL, DATASET, START = "TOTAL", "DATASET", "START"
"""In an arm's words: the units of the run, the logs, and a policy of them."""


@dataclass(frozen=True)
class Arm:
    """One way to train: the words of its command line, and how long it runs."""

    words: str
    total: int
    every: int
    """Units between checkpoints."""
    log_every: int = 50
    logs: str = DATA


FROM_LOGS = f"--dataset {DATASET}"
SMALL = "--hidden 64 64 --batch-size 64"
SMALL_FQE = "--unio4.fqe.updates 150 --unio4.fqe.members 3 --unio4.fqe.hidden 32 32 --unio4.gate-updates 30"
ARMS: dict[str, Arm] = {
    "iql": Arm(f"--learner iql {FROM_LOGS} --updates {TOTAL} {SMALL}", 1500, 150),
    "ppo": Arm(f"--learner ppo --task reach --ppo.steps {TOTAL} --ppo.envs 2 --ppo.horizon 25 {SMALL}", 1500, 150),
    "bc, bins, chunks and history": Arm(
        f"--learner bc {FROM_LOGS} --updates {TOTAL} --bc.loss bins --bc.chunk 8 --bc.execute 4 --inputs.history 4 "
        f"{SMALL}", 1500, 150,
    ),
    "iql fine-tuning": Arm(
        f"--learner iql {FROM_LOGS} --init {START} --task reach --finetune.steps {TOTAL} --finetune.envs 2 {SMALL}",
        1500, 150,
    ),
    "unio4": Arm(f"--learner unio4 {FROM_LOGS} --init {START} --updates {TOTAL} {SMALL_FQE} {SMALL}", 400, 60, 20),
    "bc with a camera": Arm(
        f"--learner bc {FROM_LOGS} --updates {TOTAL} --inputs.cameras front --inputs.image-size 24 32 "
        f"--inputs.shift 2 --hidden 64 64 --batch-size 16", 1000, 100, 20, SEEN_DATA,
    ),
}  # fmt: skip


def cells(options: BenchOptions) -> list[Cell]:
    """The logs and a policy of them, then arm x seed."""
    quick = options.quick
    found = [
        Cell(DATA, settings={"episodes": 4 if quick else 12, "updates": 200}),
        Cell(SEEN_DATA, settings={"episodes": 1 if quick else 3, "camera": "front"}),
    ]
    for seed in options.seeds_or((0, 1, 2)):
        for name, arm in ARMS.items():
            total = 2 * arm.total // 5 if quick else arm.total
            settings = {"words": arm.words, "total": total, "every": arm.every, "log_every": arm.log_every}
            found.append(Cell(name, "reach", seed, {**settings, "kills": 1 if quick else 2}, stage=1))
    return found


def run_cell(cell: Cell, context: CellContext) -> dict[str, Any]:
    """How often the run was killed, how many updates were lost by it, and whether it ended the same."""
    if cell.arm in (DATA, SEEN_DATA):
        _make_data(context.folder, cell.settings)
        return {}
    whole, killed = context.folder / "whole", context.folder / "killed"
    for out in (whole, killed):
        shutil.rmtree(out, ignore_errors=True)
    arguments = arguments_of(cell, context.folder_of(ARMS[cell.arm].logs, "all", 0))
    _finish(_start([*arguments, "--out", str(whole)]))
    struck = _killed_often([*arguments, "--out", str(killed), "--resume"], killed, cell, context)
    weights = [(out / "checkpoint" / "weights.safetensors").read_bytes() for out in (whole, killed)]
    return {
        "kills": len(struck),
        "lost": sum(reached - kept for reached, kept in struck),
        "struck": struck,
        "total": cell.settings["total"],
        "weights_equal": float(weights[0] == weights[1]),
        "curve_equal": float(_curve(whole) == _curve(killed)),
        "bytes": len(weights[0]),
    }


def _killed_often(arguments: Sequence[str], out: Path, cell: Cell, context: CellContext) -> list[tuple[int, int]]:
    """The run in `out`, to its end: of every kill, how far it was and what its checkpoint had."""
    chance, struck = random.SystemRandom(), list[tuple[int, int]]()
    for _ in range(ATTEMPTS):
        if len(struck) == cell.settings["kills"]:
            break
        moment = chance.uniform(0.1, 0.9) * cell.settings["total"]
        found = _kill(_start(arguments), out, moment, chance.uniform(0.0, 0.05))
        if found is None:  # it came to its end first
            shutil.rmtree(out)
            struck = []
        else:
            struck.append(found)
        context.progress(len(struck), cell.settings["kills"])
    _finish(_start(arguments))
    return struck


def _make_data(folder: Path, settings: Mapping[str, Any]) -> None:
    """A dataset; of logs without images also a policy."""
    from sealegs.cli import main

    for name in ("bags", "dataset", "start"):
        shutil.rmtree(folder / name, ignore_errors=True)
    bags, dataset = str(folder / "bags"), str(folder / "dataset")
    collect = ["collect", "--task", "reach", "--policy", "mixed", "--episodes", str(settings["episodes"])]
    collect += ["--cameras", settings["camera"]] if "camera" in settings else ["--no-images"]
    commands = [[*collect, "--out", bags], ["import", bags, "--out", dataset]]
    if "updates" in settings:
        train = ["train", "--dataset", dataset, "--updates", str(settings["updates"]), *SMALL.split()]
        commands.append([*train, "--out", str(folder / "start")])
    for command in commands:
        if main(command):
            raise MachineError(f"sealegs {' '.join(command)} failed")


def arguments_of(cell: Cell, data: Path) -> list[str]:
    """The options of `sealegs train` for a cell but the folder; `data` is where the logs and a policy of them are."""
    filled = {TOTAL: str(cell.settings["total"]), DATASET: str(data / "dataset"), START: str(data / "start")}
    words = [filled.get(word, word) for word in cell.settings["words"].split()]
    words += ["--log-every", str(cell.settings["log_every"]), "--checkpoint-every", str(cell.settings["every"])]
    return [*words, "--seed", str(cell.seed)]


def _start(arguments: Sequence[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sealegs", "train", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _finish(process: subprocess.Popen[str]) -> None:
    said, _ = process.communicate()
    if process.returncode:
        raise MachineError(f"the training failed: {' '.join(said.split())[-500:]}")


def _kill(process: subprocess.Popen[str], out: Path, moment: float, delay_s: float) -> tuple[int, int] | None:
    """SIGKILL `delay_s` after the curve has come to `moment`; where curve and checkpoint then are. None: too late."""
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
    return units_done(out), load_checkpoint(folder).update if folder.exists() else 0


def _curve(out: Path) -> list[dict[str, Any]]:
    from sealegs_learning.training.run import read_curve

    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_curve(out / "train.jsonl")]


def summarise(rows: Sequence[Row], options: BenchOptions) -> Summary:
    """Share of the runs that ended the same, and how often they were killed."""
    runs = [row for row in rows if row["arm"] in ARMS]
    share = {key: sum(row[key] for row in runs) / len(runs) for key in ("weights_equal", "curve_equal")}
    claims = [
        Claim(
            "killed runs whose weights are those of a run left alone, byte for byte (share)",
            share["weights_equal"],
            "== 1",
        ),
        Claim("killed runs whose learning curve is that of a run left alone (share)", share["curve_equal"], "== 1"),
        Claim("kills at moments of chance, of the run with the fewest", min(row["kills"] for row in runs), ">= 1"),
    ]
    columns = ("learner", "seed", "kills", "units made again", "weights equal", "curve equal")
    keys = ("arm", "seed", "kills", "lost", "weights_equal", "curve_equal")
    table = Table("Runs", columns, [[row[key] for key in keys] for row in runs])
    note = (
        "Kills are SIGKILL, which no process can catch: nothing is saved on the way out. The moments are not seeded, "
        "so every repetition tries others."
    )
    return Summary(claims, {"kills": _picture(runs)}, [table], [note])


def _picture(runs: Sequence[Row]) -> Figure:
    """Where each run was killed, and back to where it went."""
    figure, (axes,) = plots.panels(width=7.5, height=1.2 + 0.22 * len(runs))
    shades = plots.colours(list(ARMS))
    for place, run in enumerate(runs):
        share = [(reached / run["total"], kept / run["total"]) for reached, kept in run["struck"]]
        axes.plot([0.0, 1.0], [place, place], color=plots.RULE, linewidth=1.0, zorder=0)
        for reached, kept in share:
            axes.plot([kept, reached], [place, place], color=shades[run["arm"]], linewidth=3.0)
            axes.plot(reached, place, "x", color=plots.INK, markersize=6)
    axes.set_yticks(range(len(runs)), [f"{run['arm']}, seed {run['seed']}" for run in runs], color=plots.INK)
    axes.invert_yaxis()
    axes.set(title="Kills (x), and what was made again (bar)", xlabel="share of the run", xlim=(0.0, 1.0))
    axes.grid(visible=False, axis="y")
    return figure


BENCH = Bench(cells, run_cell, summarise)
