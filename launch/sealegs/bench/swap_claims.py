"""What the rows of bench `swap` say: claims, tables and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sealegs.bench import plots
from sealegs.bench.frame import Row, Summary, Table
from sealegs.bench.options import BenchOptions
from sealegs_learning.results import Claim
from sealegs_learning.statistics import Interval, bootstrap_mean_interval, wilson_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SWAP, ROLLBACK, SHADOW = "swap", "rollback", "shadow"
FAULTS = ("NaN", "overrun", "support alarm", "stream stops")
KINDS = ("swap", "control", "load", "idle")
STAYS = {"NaN": ("active",), "overrun": ("active", "hold"), "support alarm": ("active",), "stream stops": ("hold",)}
"""States in which the former policy may take over: an overrun lasts longer than what it observed may be old."""
SHADOWS = ("none", "same", "other", "heavy")
MILLISECONDS_P50, MILLISECONDS_P99 = 0.2, 2.0
"""What a shadow may add to the command latency: a hundredth and a tenth of a period."""


def summarise(rows: Sequence[Row], options: BenchOptions) -> Summary:
    """Gaps at swaps against the controls, rollbacks by fault, shadows against none."""
    swaps = [row for row in rows if row["arm"] == SWAP]
    gaps = {kind: {name: _joined(swaps, kind, name) for name in ("periods", "arrival_ms", "missed")}
            for kind in KINDS}  # fmt: skip
    rollbacks = {fault: [t for row in _of(rows, ROLLBACK, fault) for t in row["trials"]] for fault in FAULTS}
    claims = [*_swap_claims(gaps, [text for row in swaps for text in row["failures"]])]
    claims += [claim for fault, trials in rollbacks.items() if trials for claim in _rollback_claims(fault, trials)]
    claims += _shadow_claims(rows)
    late = [trial["missed"] for trial in rollbacks["overrun"]]
    notes = [
        "Simulated robot in real time at 50 Hz; nodes, middleware and the watching client share this machine's cores.",
        "Gaps are between commands that follow each other. In periods: by their stamps, robot time. In ms: by their "
        "arrival at a third process. The control is a service call that changes nothing, at moments drawn alike; "
        "beside the whole of a loading stands as long a time in which nothing is loaded.",
        f"No failure in n trials bounds the rate at 3/n (95%): n = {len(gaps['swap']['missed'])} swaps.",
        f"An overrun keeps the control thread busy: {np.median(late):g} commands (median) were missed in each of those "
        "rollbacks, the robot node's watchdog holds meanwhile, and the former policy acts next."
        if late
        else "",
    ]
    return Summary(claims, _plots(gaps, rows), [_gap_table(gaps), _shadow_table(rows)], [n for n in notes if n])


def _of(rows: Sequence[Row], arm: str, task: str) -> list[Row]:
    return [row for row in rows if (row["arm"], row["task"]) == (arm, task)]


def _joined(rows: Sequence[Row], kind: str, name: str) -> np.ndarray:
    return np.array([value for row in rows for value in row[kind][name]], dtype=np.float64)


def _failed_share(failed: int, trials: int) -> tuple[float, Interval]:
    """Share of failures, and its interval: 3/n above where there was none."""
    if failed:
        return failed / trials, wilson_interval(failed, trials)
    return 0.0, Interval(0.0, min(1.0, 3.0 / trials))


def _swap_claims(gaps: Mapping[str, Mapping[str, np.ndarray]], failures: Sequence[str]) -> list[Claim]:
    if not len(gaps["swap"]["missed"]):
        return []
    count = len(gaps["swap"]["missed"])
    claims = [
        Claim("command gap at the swap, periods, largest", float(gaps["swap"]["periods"].max()), "<= 1"),
        Claim("the same for the control, a call that changes nothing", float(gaps["control"]["periods"].max()), "<= 1"),
    ]
    around = ("a swap", "the control", "the loading of a candidate", "as long a time in which nothing is loaded")
    for kind, text in zip(KINDS, around, strict=True):
        share, spread = _failed_share(int((gaps[kind]["missed"] > 0).sum()), count)
        claims.append(Claim(f"share of trials with a command missed around {text}", share, "== 0", spread))
    share, spread = _failed_share(len(failures), count)
    claims.append(Claim("share of sound candidates that were not kept", share, "== 0", spread))
    return claims


def _rollback_claims(fault: str, trials: Sequence[Mapping[str, Any]]) -> list[Claim]:
    seen = sum(trial["back"] and trial["state"] in STAYS[fault] for trial in trials)
    text = f"{fault} on probation: former policy in charge again, {' or '.join(STAYS[fault])}"
    claims = [Claim(text, seen / len(trials), ">= 1", wilson_interval(seen, len(trials)))]
    if fault in {"NaN", "support alarm"}:
        share, spread = _failed_share(sum(trial["missed"] != 0 for trial in trials), len(trials))
        claims.append(Claim(f"{fault} on probation: share of rollbacks with a command missed", share, "== 0", spread))
    return claims


def _shadow_claims(rows: Sequence[Row]) -> list[Claim]:
    same = [row["score"]["divergence_rad"]["max"] for row in _of(rows, SHADOW, "same")]
    other = [row["score"]["divergence_rad"]["p50"] for row in _of(rows, SHADOW, "other")]
    claims = []
    if same:
        claims.append(Claim("divergence of a policy from itself, rad, largest", max(same), "== 0"))
    if other:
        claims.append(Claim("divergence of another policy, rad, smallest p50", min(other), "> 0"))
    for kind in SHADOWS[1:]:
        for figure, allowed in {"p50_ms": MILLISECONDS_P50, "p99_ms": MILLISECONDS_P99}.items():
            added = _added(rows, kind, figure)
            if len(added):
                text = f"command latency with shadow '{kind}' over none, {figure[:3]}, ms"
                claims.append(Claim(text, float(added.mean()), f"<= {allowed:g}", bootstrap_mean_interval(added)))
    return claims


def _added(rows: Sequence[Row], kind: str, figure: str) -> np.ndarray:
    """Latency with less latency without, by seed, ms."""
    without = {row["seed"]: row["latency"][figure] for row in _of(rows, SHADOW, "none")}
    found = {row["seed"]: row["latency"][figure] for row in _of(rows, SHADOW, kind)}
    return np.array([value - without[seed] for seed, value in found.items() if seed in without])


def _gap_table(gaps: Mapping[str, Mapping[str, np.ndarray]]) -> Table:
    lines: list[list[str | float | int]] = []
    for kind, values in gaps.items():
        if len(values["missed"]):
            p50, p99 = np.percentile(values["arrival_ms"], [50.0, 99.0])
            largest = float(values["arrival_ms"].max())
            lines.append([kind, len(values["missed"]), float(values["periods"].max()), p50, p99, largest])
    columns = ("around", "trials", "gap, periods, max", "gap, ms, p50", "p99", "max")
    return Table("largest gap between commands in each trial", columns, lines)


def _shadow_table(rows: Sequence[Row]) -> Table:
    lines: list[list[str | float | int]] = []
    for kind in SHADOWS:
        found = _of(rows, SHADOW, kind)
        if found:
            latency = [
                float(np.mean([row["latency"][name] for row in found])) for name in ("p50_ms", "p99_ms", "max_ms")
            ]
            scores = [row["score"] for row in found if row["score"]]
            counted = [sum(score[name] for score in scores) for name in ("compared", "skipped", "errors")]
            lines.append([kind, sum(row["commands"] for row in found), *latency, *counted])
    columns = ("shadow", "commands", "latency, ms, p50", "p99", "max", "compared", "skipped", "errors")
    return Table("command latency beside a shadow, means over the seeds", columns, lines)


def _plots(gaps: Mapping[str, Mapping[str, np.ndarray]], rows: Sequence[Row]) -> dict[str, Figure]:
    if not len(gaps["swap"]["missed"]):
        return {}
    figure, (left, right) = plots.panels(columns=2, width=3.9, height=2.3)
    for shade, kind in enumerate(KINDS):
        values = np.sort(gaps[kind]["arrival_ms"])
        left.step(values, np.arange(1, len(values) + 1) / len(values), label=kind, color=plots.COLOURS[shade])
    left.set_xlabel("largest gap between commands, ms")
    left.set_ylabel("share of trials")
    left.legend()
    p99 = {
        kind: float(np.mean([row["latency"]["p99_ms"] for row in _of(rows, SHADOW, kind)]))
        for kind in SHADOWS
        if _of(rows, SHADOW, kind)
    }
    if p99:
        plots.bars(right, p99)
        right.set_xlabel("command latency beside a shadow, p99, ms")
    return {"swap": figure}
