"""Bench `best-of-n`: a policy alone against the best of N of its candidates, N from 1 to 64, as reward.onnx ranks them.

Stage 0, a cell a task and seed: logs, an early clone of them, a reward learned from a judge that errs, and exported
bundles. Stage 1: every arm for every N, on the same starts. Stage 2: what an inference takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sealegs.bench import plots
from sealegs.bench.frame import Bench, Cell, CellContext, Row, Summary, Table
from sealegs.bench.options import BenchOptions
from sealegs.bench.over_seeds import (
    OF_SHARES,
    Difference,
    bounds,
    difference_claim,
    difference_table,
    paired_difference,
    seed_interval,
    seed_means,
)
from sealegs_learning.results import Claim
from sealegs_learning.statistics import Interval, success_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

START, ALONE, LATENCY = "logs, policy and scorers", "policy alone", "latency"
TASKS = ("reach", "push", "drawer")
SEEDS = (1, 2, 3, 4, 5)
SIZES = (1, 2, 4, 8, 16, 32, 64)
CHOSEN, MOST = 8, 64
"""The N of the claim, and the N at which the ensemble is exploited most."""
PERIOD_MS = 20.0


def cells(options: BenchOptions) -> list[Cell]:
    """The start, then all arms, for every seed and task; latency on one machine's quiet end."""
    from sealegs.bench.best_of_n_arms import ARMS

    quick = options.quick
    start = {
        "episodes": 10 if quick else 150,
        "updates": 200 if quick else 1_500,
        "pairs": 500 if quick else 10_000,
        "members": 3 if quick else 5,
        "critic_updates": 200 if quick else 4_000,
    }
    acting = {**start, "starts": 4 if quick else 50, "sizes": [2, 8, 64] if quick else [*SIZES[1:]]}
    found = []
    seeds, tasks = options.seeds_or(SEEDS, (1, 2)), options.tasks_or(TASKS, TASKS)
    for seed in seeds:
        for task in tasks:
            found.append(Cell(START, task, seed, start))
            found.append(Cell(ALONE, task, seed, acting | {"sizes": [1]}, stage=1))
            found += [Cell(arm, task, seed, acting, stage=1) for arm in ARMS]
    timing = {**start, "calls": 100 if quick else 500, "rounds": 2 if quick else 10}
    return [*found, *(Cell(LATENCY, task, seeds[0], timing, stage=2) for task in tasks)]


def run_cell(cell: Cell, context: CellContext) -> dict[str, Any]:
    """What was made, outcomes by N, or times by N."""
    import torch

    from sealegs.bench import best_of_n_arms as arms

    torch.set_num_threads(1)
    if cell.arm == START:
        return arms.make_start(cell, context.folder, context.progress)
    source = context.folder_of(START, cell.task, cell.seed)
    key = context.row_of(START, cell.task, cell.seed)["key"]
    bundle = arms.open_bundle(source, arms.ARMS.get(cell.arm, "learned"), key)
    if cell.arm == LATENCY:
        return {"ms": arms.latencies(bundle, SIZES, int(cell.settings["calls"]), int(cell.settings["rounds"]))}
    sizes, by_size = list(cell.settings["sizes"]), {}
    for number, n in enumerate(sizes):
        by_size[str(n)] = arms.episodes(bundle, cell.task, cell.arm, n, int(cell.settings["starts"]), cell.seed)
        context.progress(number + 1, len(sizes))
    return {"by_size": by_size}


def named(arm: str, n: int) -> str:
    """An arm at one N."""
    return f"{arm}, N = {n}" if n > 1 else f"{ALONE}, N = 1"


def by_size(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A row for each N of each row that acted."""
    return [
        {"arm": named(row["arm"], int(n)), "task": row["task"], "seed": row["seed"], **found}
        for row in rows
        for n, found in row.get("by_size", {}).items()
    ]


def summarise(rows: Sequence[Row], options: BenchOptions) -> Summary:
    """Success by N, differences paired by seed, the turn-down, what the ensemble believed, and latency."""
    from sealegs.bench.best_of_n_arms import ARMS, LEARNED

    acted = by_size(rows)
    sizes = [1, *(int(n) for n in next(row for row in rows if row["arm"] == LEARNED)["by_size"])]
    latency = {row["task"]: row["ms"] for row in rows if row["arm"] == LATENCY}
    claims, differences = _claims(acted, latency)
    curves = {arm: [_over_tasks(acted, named(arm, n), "success") for n in sizes] for arm in ARMS}
    table = Table("Success rate, mean of seeds and tasks", ("arm", *(f"N = {n}" for n in sizes)),
                  [(arm, *(float(v.mean()) for v in values)) for arm, values in curves.items()])  # fmt: skip
    tables = [
        table,
        _task_table(acted, sizes, len(acted[0]["success"])),
        difference_table("Differences of success, paired by seed, 95% over seeds", differences),
        _belief_table(acted, sizes),
        Table("One inference, ms", ("task", "N", "p50", "p99", "largest"), [
            (task, int(n), v["p50"], v["p99"], v["max"]) for task, ms in latency.items() for n, v in ms.items()
        ]),
    ]  # fmt: skip
    return Summary(claims, {"curves": _picture(acted, sizes, curves, latency)}, tables, _notes(rows, sizes, curves))


def _claims(acted: Sequence[Row], latency: Mapping[str, Any]) -> tuple[list[Claim], list[Difference]]:
    from sealegs.bench.best_of_n_arms import LEARNED, MEAN, MEMBER, NEXT, RANDOM, TRUE

    ours, alone = named(LEARNED, CHOSEN), named(ALONE, 1)
    pairs = {
        (ours, alone): "low > 0",
        (ours, named(LEARNED, MOST)): "low > 0",
        (ours, named(MEAN, CHOSEN)): "low > 0",
        (ours, named(MEMBER, CHOSEN)): "low > 0",
        (ours, named(NEXT, CHOSEN)): "low > 0",
        (ours, named(RANDOM, CHOSEN)): "low > 0",
        (named(RANDOM, CHOSEN), alone): "low <= 0",
        (named(TRUE, CHOSEN), alone): "low > 0",
    }
    differences = [paired_difference(acted, *pair, lambda row: row["success"], OF_SHARES) for pair in pairs]
    claims = [difference_claim("success", d, t) for d, t in zip(differences, pairs.values(), strict=True)]
    believed = paired_difference(acted, named(LEARNED, MOST), ours, lambda row: row["believed"])
    claims.append(difference_claim("what the ensemble's minimum believes to gain", believed, "low > 0"))
    for n in (CHOSEN, MOST):
        worst = max(float(ms[str(n)]["p99"]) for ms in latency.values())
        claims.append(Claim(f"p99 of one inference with N = {n}, slowest task, ms", worst, f"< {PERIOD_MS:g}"))
    return claims, [*differences, believed]


def _over_tasks(acted: Sequence[Row], arm: str, figure: str) -> Any:
    """Mean over the tasks by seed, (S,)."""
    tasks = list(dict.fromkeys(row["task"] for row in acted))
    found = [seed_means(acted, arm, task, lambda row: row[figure]) for task in tasks]
    return np.array([np.mean([values[seed] for values in found]) for seed in found[0]])


def _task_table(acted: Sequence[Row], sizes: Sequence[int], episodes: int) -> Table:
    from sealegs.bench.best_of_n_arms import LEARNED

    lines: list[list[str | float | int]] = []
    for task in dict.fromkeys(row["task"] for row in acted):
        for n in sizes:
            rates = list(seed_means(acted, named(LEARNED, n), task, lambda row: row["success"]).values())
            interval = success_interval([round(rate * episodes) for rate in rates], episodes)
            progress = seed_means(acted, named(LEARNED, n), task, lambda row: row["final_progress"])
            lines.append([task, n, float(np.mean(rates)), *bounds(interval), float(np.mean(list(progress.values())))])
    return Table(f"Success of {LEARNED}, by task", ("task", "N", "success", "low", "high", "final progress"), lines)


def _belief_table(acted: Sequence[Row], sizes: Sequence[int]) -> Table:
    """The proxy beside the truth: where the first rises and the second falls, the ensemble is exploited."""
    from sealegs.bench.best_of_n_arms import LEARNED, MEAN, MEMBER, RANDOM

    lines: list[list[str | float | int]] = []
    for arm in (LEARNED, MEAN, MEMBER, RANDOM):
        for n in sizes[1:]:
            figures = ("believed", "taken", "return", "success")
            lines.append([arm, n, *(float(_over_tasks(acted, named(arm, n), f).mean()) for f in figures)])
    return Table(
        "What the rule believed to gain (deviations), how often it left the policy's action, and what came of it",
        ("arm", "N", "believed", "taken", "true return", "success"), lines,
    )  # fmt: skip


def _picture(
    acted: Sequence[Row], sizes: Sequence[int], curves: Mapping[str, Any], latency: Mapping[str, Any]
) -> Figure:
    from sealegs.bench.best_of_n_arms import LEARNED, RANDOM

    figure, axes = plots.panels(2, 2, width=4.8)
    shades = plots.colours([arm for arm in curves if arm != RANDOM]) | {RANDOM: plots.COLOURS[5]}
    for arm, values in curves.items():
        plots.curve(axes[0], sizes, np.array(values).T, arm, shades[arm])
    axes[0].set(title="Success, mean of tasks", ylabel="success rate")
    tasks = list(dict.fromkeys(row["task"] for row in acted))
    for task, shade in plots.colours(tasks).items():
        found = [list(seed_means(acted, named(LEARNED, n), task, lambda r: r["success"]).values()) for n in sizes]
        plots.curve(axes[1], sizes, np.array(found).T, task, shade)
        axes[3].plot(sizes, [latency[task][str(n)]["p99"] for n in sizes], label=f"p99, {task}", color=shade)
    axes[1].set(title=f"Success by task, {LEARNED}", ylabel="success rate")
    believed = [np.zeros_like(curves[LEARNED][0])]
    believed += [_over_tasks(acted, named(LEARNED, n), "believed") for n in sizes[1:]]
    plots.curve(axes[2], sizes, np.array(believed).T, "believed gain, deviations", plots.COLOURS[4])
    plots.curve(axes[2], sizes, np.array(curves[LEARNED]).T, "success rate", plots.COLOURS[0])
    axes[2].set(title="What the ensemble believes, and success")
    axes[3].axhline(PERIOD_MS, color=plots.SOFT, linestyle="--", linewidth=1.0, label="control period")
    axes[3].set(title="One inference, ms", yscale="log")
    for panel in axes:
        panel.set_xscale("log", base=2)
        panel.set_xticks(sizes, [str(n) for n in sizes])
        panel.set_xlabel("candidates N")
        panel.legend(fontsize=7)
    return figure


def _notes(rows: Sequence[Row], sizes: Sequence[int], curves: Mapping[str, Any]) -> list[str]:
    from sealegs.bench.best_of_n_arms import ARMS, LEARNED, NEXT, TRUE
    from sealegs_learning.reward.scorer import SPREAD

    starts = [row for row in rows if row["arm"] == START]
    success = np.mean([row["log_success"] for row in starts])
    accuracy = np.mean([row["label_accuracy"] for row in starts])
    worst = max(found["scorer_relative"] for row in starts for found in row["differences"].values())
    peaks = {arm: sizes[int(np.argmax([v.mean() for v in curves[arm]]))] for arm in ARMS}
    spread = seed_interval(curves[LEARNED][0], 0.0, 1.0)
    return [
        "The policy is an early clone of logs of unequal operators "
        f"({success:.0%} successes), so that there is room; alone it succeeds in {curves[LEARNED][0].mean():.1%}"
        f"{_span(spread)}. Candidates deviate by {SPREAD:g} of its own standard deviation.",
        f"The reward is learned from pairs that a judge with the error curve of RL-VLM-F labelled (held-out agreement "
        f"{accuracy:.2f}). {TRUE}: the same critics under the simulator's progress. {NEXT}: critics with discount 0.",
        "What acts is the exported bundle in onnxruntime, through the code of the policy node. All arms and N have the "
        "same starts; differences are paired by seed, which decides logs, weights and starts.",
        f"Scorer in onnxruntime less torch: at most {worst:.2g} of max(1, |score|).",
        "The curve's highest mean lies at "
        + ", ".join(f"N = {n} ({arm})" for arm, n in peaks.items())
        + f". The turn-down claim compares N = {CHOSEN} with N = {MOST}, both named before the run.",
        "Spread, discount and network size were chosen on seed 0, which is not among these.",
    ]


def _span(interval: Interval | None) -> str:
    return "" if interval is None else f" [{interval.low:.1%}, {interval.high:.1%}]"


BENCH = Bench(cells, run_cell, summarise)
