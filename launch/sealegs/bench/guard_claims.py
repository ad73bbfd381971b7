"""What the rows of bench `guard` say: claims, tables and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sealegs.bench import plots
from sealegs.bench.frame import Row, Summary, Table
from sealegs.bench.options import BenchOptions
from sealegs_learning.results import Claim
from sealegs_learning.statistics import Interval, bootstrap_mean_interval, wilson_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COST, BATCH, FUZZ = "cost", "batch", "fuzz"
GUARD, PEER, CLIP = "sealegs guard", "ruckig step", "numpy clip"
STREAMS = ("following", "between the limits", "random walk", "noise", "relative")
LIMIT_US = 20.0


def summarise(rows: Sequence[Row], options: BenchOptions) -> Summary:
    """Cost by stream, beside the peers; cost by size of a batch; violations by robot."""
    streams = {stream: found for stream in STREAMS if (found := _of(rows, COST, stream))}
    claims = []
    for stream, found in streams.items():
        medians = _rounds(found, GUARD)
        text = f"seven joints, targets {stream}: a command, p50, us"
        claims.append(Claim(text, float(medians.mean()), f"< {LIMIT_US:g}", bootstrap_mean_interval(medians)))
    claims += [_violations(robot, found) for robot, found in _by_task(rows, FUZZ).items()]
    runs = sum(row["runs"] for row in rows if row["arm"] == FUZZ)
    failed = sum(row["failed_peer"] for row in rows if row["arm"] == COST)
    notes = [
        "Limits of position, velocity, acceleration and jerk; jerk reaches the full acceleration in 50 ms; 50 Hz. "
        "`seven joints` are those of a Franka Panda.",
        "`ruckig step` is Ruckig.update with unsynchronised joints under the same limits of velocity, acceleration "
        "and jerk, in a process of its own, in turns with the guard: compiled C++, from targets to a numpy array. "
        "It heads for rest at each target, and does not know of position limits. "
        f"It failed on {failed} targets.",
        "`numpy clip` limits position and velocity only: the least that one would write. Targets `relative` are steps "
        "added to the last command, which ruckig's position interface has no word for.",
        f"Fuzz: {runs} runs, judged by an oracle that shares no code with the guard. A run that breaks a limit, or a "
        "state that cannot stop, counts as a violation. None in n commands bounds the rate at 3/n (95%).",
    ]
    return Summary(claims, _plots(streams), [_cost_table(streams), _batch_table(rows)], notes)


def _of(rows: Sequence[Row], arm: str, task: str) -> list[Row]:
    return [row for row in rows if (row["arm"], row["task"]) == (arm, task)]


def _by_task(rows: Sequence[Row], arm: str) -> dict[str, list[Row]]:
    tasks = dict.fromkeys(row["task"] for row in rows if row["arm"] == arm)
    return {task: _of(rows, arm, task) for task in tasks}


def _rounds(rows: Sequence[Row], caller: str) -> np.ndarray:
    """p50 of every round of every seed, us."""
    return np.concatenate([row["callers"][caller]["rounds_p50"] for row in rows])


def _violations(robot: str, rows: Sequence[Row]) -> Claim:
    count, failed = sum(row["commands"] for row in rows), sum(row["violations"] for row in rows)
    spread = wilson_interval(min(failed, count), count) if failed else Interval(0.0, min(1.0, 3.0 / count))
    return Claim(f"{robot}: share of {count:,} fuzzed commands that break a limit", failed / count, "== 0", spread)


def _cost_table(streams: dict[str, list[Row]]) -> Table:
    lines: list[list[str | float | int]] = []
    for stream, found in streams.items():
        ours = _rounds(found, GUARD)
        for caller in (GUARD, PEER, CLIP):
            if caller not in found[0]["callers"]:
                continue
            p50, p99 = (float(np.mean([row["callers"][caller][name] for row in found])) for name in ("p50", "p99"))
            ratio = "" if caller == GUARD else float((ours / _rounds(found, caller)).mean())
            lines.append([stream, caller, p50, p99, ratio])
    columns = ("targets", "by", "p50", "p99", "guard's p50 over it")
    return Table("one command of seven joints, us", columns, lines)


def _batch_table(rows: Sequence[Row]) -> Table:
    lines: list[list[str | float | int]] = []
    for size, found in _by_task(rows, BATCH).items():
        lines.append([int(size), *(float(np.mean([row[name] for row in found])) for name in ("p50", "p99"))])
    return Table("a command of seven joints in a batch, us a robot, random walks", ("robots", "p50", "p99"), lines)


def _plots(streams: dict[str, list[Row]]) -> dict[str, Figure]:
    figure, axes = plots.panels(columns=max(len(streams), 1), width=3.0, height=1.9)
    shades = dict(zip((GUARD, PEER, CLIP), (plots.COLOURS[0], plots.COLOURS[1], plots.COLOURS[5]), strict=True))
    for panel, (stream, found) in zip(axes, streams.items(), strict=False):
        values: dict[str, Any] = {
            caller: float(_rounds(found, caller).mean()) for caller in shades if caller in found[0]["callers"]
        }
        plots.bars(panel, values, colour=shades)
        panel.set_title(stream)
        panel.set_xlabel("p50 of a command, us")
    return {"cost": figure}
