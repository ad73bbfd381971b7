"""What the rows of bench `support` say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sealegs.bench import plots
from sealegs.bench.frame import Row, Summary, Table
from sealegs.bench.options import BenchOptions
from sealegs.bench.over_seeds import (
    OF_SHARES,
    bounds,
    difference_claim,
    difference_table,
    paired_difference,
)
from sealegs_learning.results import Claim
from sealegs_learning.statistics import Interval, success_interval, wilson_interval

GUARD, LOGS, OWN = "combined", "combined, logs only", "combined, own runs only"
BOX, PLAIN_BOX, RANDOM = "box, with change", "box, observation", "random score"
DETECTORS = (
    GUARD,
    LOGS,
    OWN,
    "Mahalanobis, observation",
    "Mahalanobis, with change",
    "Mahalanobis, policy features",
    "neighbours, observation",
    "neighbours, with change",
    "neighbours, policy features",
    PLAIN_BOX,
    BOX,
    RANDOM,
)
RUNS, CLEAN = "runs", "clean"
GROUPS = ("sensors", "objects", "dynamics")
RATE = 0.01
PERIOD_MS = 20.0
"""Of the SO-101's profile."""
SUCCESS_MARGIN, DELAY_MS, CHECK_US = 0.02, 250.0, 100.0


def summarise(rows: Sequence[Row], options: BenchOptions) -> Summary:
    """False alarms, detection by group, differences to the controls, guarded success, cost."""
    found = [row for row in rows if row["arm"] in DETECTORS]
    differences = {
        name: paired_difference(found, GUARD, name, _rates(GROUPS), OF_SHARES) for name in (BOX, PLAIN_BOX, RANDOM)
    }
    by_group = {group: paired_difference(found, GUARD, BOX, _rates((group,)), OF_SHARES) for group in GROUPS}
    success = paired_difference(_success_rows(rows), GUARD, "no guard", lambda row: row["outcome"], OF_SHARES)
    claims = [
        *_false_alarm_claims(found),
        *(difference_claim("share of shifted runs detected", one, "low > 0") for one in differences.values()),
        *(difference_claim(f"the same, {group} only", one, "low > 0") for group, one in by_group.items()),
        difference_claim("success of clean runs", success, f"low > -{SUCCESS_MARGIN:g}"),
        *_cost_claims(found),
    ]
    tables = [
        _overview(found),
        *(_cases(rows, task) for task in dict.fromkeys(row["task"] for row in found)),
        difference_table("Share of all shifted runs detected, differences paired by seed", list(differences.values())),
    ]
    return Summary(claims, {"detection": _picture(found)}, tables, _notes(rows))


def _false_alarm_claims(rows: Sequence[Row]) -> list[Claim]:
    """Of clean runs, whose seeds nothing has seen: over all tasks, and by task."""
    claims = []
    for arm, on in ((GUARD, "both, as shipped"), (LOGS, "held-out logs"), (OWN, "the policy's own runs")):
        mine = [row for row in rows if row["arm"] == arm]
        share, interval = _false_alarms(mine)
        # Where runs are exchangeable with the calibration's, about RATE of them alarm on average: half of all benches
        # would find more. So the interval decides there, and the value elsewhere: `both` is the more cautious one.
        target = f"low <= {RATE:g}" if arm == OWN else f"<= {RATE:g}"
        claims.append(Claim(f"clean runs that hold, calibrated on {on}, all tasks", share, target, interval))
        for task in dict.fromkeys(row["task"] for row in mine):
            share, interval = _false_alarms([row for row in mine if row["task"] == task])
            claims.append(Claim(f"the same, {task}", share, f"low <= {RATE:g}", interval))
    return claims


def _cost_claims(rows: Sequence[Row]) -> list[Claim]:
    mine = [row for row in rows if row["arm"] == GUARD]
    delays = [one * PERIOD_MS for row in mine for case in _of(row, ("sensors",)) for one in case["delay"]]
    cost = max(float(row["check_us"]["p50"]) for row in mine)
    middle = float(np.median(delays)) if delays else None
    return [
        Claim("median time to detection of sensor faults that are detected, ms", middle, f"<= {DELAY_MS:g}"),
        Claim("p50 of one check, worst cell, us", cost, f"<= {CHECK_US:g}"),
    ]


def _false_alarms(rows: Sequence[Row]) -> tuple[float, Interval]:
    """Share of the clean runs that alarm, and its interval over seeds and runs."""
    seeds = sorted({int(row["seed"]) for row in rows})
    found = [[row["cases"][CLEAN] for row in rows if row["seed"] == seed] for seed in seeds]
    alarms = [sum(case["detected"] for case in cases) for cases in found]
    trials = sum(case["episodes"] for case in found[0])
    return sum(alarms) / (trials * len(seeds)), success_interval(alarms, trials)


def _of(row: Row, groups: Sequence[str]) -> list[Mapping[str, Any]]:
    return [case for case in row["cases"].values() if case["group"] in groups]


def _rates(groups: Sequence[str]) -> Any:
    """Share of the runs detected, by case: all cases of a group count alike."""
    return lambda row: [case["detected"] / case["episodes"] for case in _of(row, groups)]


def _success_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Clean outcomes by start, with the guard and without."""
    plain = [
        {"arm": "no guard", "task": r["task"], "seed": r["seed"], "outcome": r["success"][CLEAN]}
        for r in rows
        if r["arm"] == RUNS
    ]
    watched = [
        {"arm": GUARD, "task": r["task"], "seed": r["seed"], "outcome": r["guarded_success"]}
        for r in rows
        if r["arm"] == GUARD
    ]
    return plain + watched


def _pooled(rows: Sequence[Row], arm: str, groups: Sequence[str]) -> tuple[float, Interval]:
    """Share detected over all runs of the groups, and its interval over seeds and runs."""
    mine = [row for row in rows if row["arm"] == arm]
    seeds = sorted({int(row["seed"]) for row in mine})
    cases = [[c for row in mine if row["seed"] == seed for c in _of(row, groups)] for seed in seeds]
    counts = [sum(case["detected"] for case in found) for found in cases]
    trials = sum(case["episodes"] for case in cases[0])
    return sum(counts) / (trials * len(seeds)), success_interval(counts, trials)


def _overview(rows: Sequence[Row]) -> Table:
    lines: list[list[str | float | int]] = []
    for arm in DETECTORS:
        alarms, spread = _false_alarms([row for row in rows if row["arm"] == arm])
        line: list[str | float | int] = [arm, alarms, *bounds(spread)]
        line += [_pooled(rows, arm, (group,))[0] for group in GROUPS]
        share, interval = _pooled(rows, arm, GROUPS)
        lines.append([*line, share, *bounds(interval)])
    columns = ("detector", "false alarms", "low", "high", *GROUPS, "all shifted", "low", "high")
    return Table("Share of runs that alarm", columns, lines)


def _cases(rows: Sequence[Row], task: str) -> Table:
    plain = [row for row in rows if row["arm"] == RUNS and row["task"] == task]
    lines: list[list[str | float | int]] = []
    for name in plain[0]["success"]:
        line: list[str | float | int] = [name, float(np.mean([np.mean(row["success"][name]) for row in plain]))]
        for arm in (GUARD, LOGS, OWN, BOX):
            found = [row["cases"][name] for row in rows if row["arm"] == arm and row["task"] == task]
            hits, count = sum(c["detected"] for c in found), sum(c["episodes"] for c in found)
            line += [hits / count]
            if arm == GUARD:
                line += list(bounds(wilson_interval(hits, count)))
                delays = [one * PERIOD_MS for case in found for one in case["delay"]]
                line += [float(np.median(delays)) if delays else "-"]
        lines.append(line)
    columns = ("case", "success without guard", GUARD, "low", "high", "median delay, ms", LOGS, OWN, BOX)
    return Table(f"{task}: share of runs that alarm", columns, lines)


def _picture(rows: Sequence[Row]) -> Any:
    figure, axes = plots.panels(len(GROUPS), width=3.9, height=3.4)
    shades = {arm: plots.COLOURS[0] if arm in (GUARD, LOGS, OWN) else plots.COLOURS[5] for arm in DETECTORS}
    for panel, group in zip(axes, GROUPS, strict=True):
        values = {arm: _pooled(rows, arm, (group,)) for arm in DETECTORS}
        plots.bars(panel, {a: v[0] for a, v in values.items()}, {a: v[1] for a, v in values.items()}, shades)
        panel.set_title(group)
        panel.set_xlabel("share of runs detected")
        if panel is not axes[0]:
            panel.set_yticks([])
    return figure


def _notes(rows: Sequence[Row]) -> list[str]:
    mine = [row for row in rows if row["arm"] == GUARD]
    calibrated = sorted({row["calibrated"] for row in mine})
    bound = max(row["bound"] for row in mine)
    slowed = sum(row["slowed"] for row in mine) / sum(len(row["guarded_success"]) for row in mine)
    held = sum(row["held"] for row in mine) / sum(len(row["guarded_success"]) for row in mine)
    return [
        f"Every detector is fitted on the same logs and calibrated on the same {min(calibrated)} to "
        f"{max(calibrated)} episodes: held-out ones of the logs, and other runs of the policy. The higher threshold "
        f"counts, and the bound that follows for either is {bound:.3g}. `{LOGS}` and `{OWN}` are calibrated on the one "
        "or the other.",
        "A run counts as detected by an alarm at or after the onset (0.4 s for sensors, else the start) and as nothing "
        "by an earlier one. Cases count alike. Sensor faults break one joint's readings, positions and velocities, "
        "drawn by the seed; the objects' and the gripper's places are measured otherwise and stay right.",
        "Intervals are the hull of Student's over training seeds and Wilson's over runs; of one case Wilson's alone.",
        f"Under the guard {held:.2%} of the clean runs held and {slowed:.2%} slowed down at least once.",
        "A policy that feels no command in its observation cannot tell a heavier robot that moves as the logs did: "
        "dynamics show only where they change the motion.",
    ]
