"""Bench `delays`: policies trained with the delays of a timing.json, and without, on robots that have them or have not.

Stage 0: real nodes measure the delays, see `delays_measured`. Stage 1: PPO for every seed and task with and without
them, and success on the same starts without delays, with the measured ones, and with twice those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sealegs.bench import plots
from sealegs.bench.frame import Bench, Cell, CellContext, Row, Summary, Table
from sealegs.bench.options import BenchOptions
from sealegs.bench.over_seeds import OF_SHARES, difference_claim, difference_table, paired_difference, seed_means
from sealegs_learning.results import Claim
from sealegs_learning.statistics import Interval, success_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURED = "delays of real nodes"
WITHOUT, WITH = "trained without delays", "trained with delays"
SCALES = {"none": 0.0, "measured": 1.0, "twice those": 2.0}
SEED_OF_STARTS = 7_000
INFERENCE_MS = (8.0, 16.0)
NO_WORSE = 0.1
"""Share of success that training with delays may cost where there are none."""


def cells(options: BenchOptions) -> list[Cell]:
    """The measurement, then both trainings for every seed and task."""
    quick = options.quick
    found = [Cell(MEASURED, settings={"seconds": 4 if quick else 60, "inference_ms": list(INFERENCE_MS)})]
    learning = {"steps": 4_096 if quick else 153_600, "episodes": 10 if quick else 100}
    for seed in options.seeds_or((0, 1, 2, 3, 4)):
        for task in options.tasks_or(("reach", "drawer"), ("reach",)):
            found += [Cell(arm, task, seed, learning, stage=1) for arm in (WITHOUT, WITH)]
    return found


def run_cell(cell: Cell, context: CellContext) -> Mapping[str, Any]:
    """What was measured; or of a training the successes at every scale, episode by episode."""
    if cell.arm == MEASURED:
        return _measured(cell, context)
    import torch

    from sealegs_learning.evaluation.evaluate import evaluate
    from sealegs_learning.learners.settings import PPOSettings
    from sealegs_learning.train import train
    from sealegs_learning.training.checkpoint import load_policy
    from sealegs_learning.training.config import TrainConfig
    from sealegs_sim.delays import Delays

    torch.set_num_threads(1)
    file = context.folder_of(MEASURED, "all", 0) / "timing.json"
    steps = int(cell.settings["steps"])
    config = TrainConfig(
        out=context.folder / "run", task=cell.task, learner="ppo", seed=cell.seed, resume=True,
        delays=file if cell.arm == WITH else None, log_every=steps // 8, checkpoint_every=steps // 4,
        ppo=PPOSettings(steps=steps, envs=16, horizon=64, randomise=False),
    )  # fmt: skip
    train(config, lambda done, total, _: context.progress(done, total))
    policy, measured = load_policy(config.out), Delays.read(file)
    found: dict[str, Any] = {"successes": {}, "final_progress": {}}
    for name, scale in SCALES.items():
        delays = measured.scaled(scale) if scale else None
        result = evaluate(policy, cell.task, int(cell.settings["episodes"]), SEED_OF_STARTS, delays=delays)
        found["successes"][name] = [int(one) for one in result.successes]
        found["final_progress"][name] = round(result.mean_final_progress, 4)
    return found


def _measured(cell: Cell, context: CellContext) -> Mapping[str, Any]:
    import json

    from sealegs.bench.delays_measured import cost_of_delays, measure
    from sealegs_sim.delays import Delays

    low, high = cell.settings["inference_ms"]
    path = measure(context.folder, float(cell.settings["seconds"]), (low, high))
    content = json.loads(path.read_text(encoding="utf-8"))
    cost = cost_of_delays(Delays.read(path), 64, 20 if context.options.quick else 200)
    kept = ("observation_age", "command_latency", "period_jitter", "late_ticks", "late_inference", "period_ms")
    return {"timing": {name: content[name] for name in kept}, "cost_us": dict(cost)}


def summarise(rows: Sequence[Row], options: BenchOptions) -> Summary:
    """Whether the delays matter, and whether training with them helps; paired by seed."""
    trained = _at_every_scale([row for row in rows if row["arm"] != MEASURED])

    def less(arm: str, control: str) -> Any:
        return paired_difference(trained, arm, control, lambda row: row["outcome"], OF_SHARES)

    hurt = less(_name(WITHOUT, "none"), _name(WITHOUT, "measured"))
    helped = less(_name(WITH, "measured"), _name(WITHOUT, "measured"))
    beyond = less(_name(WITH, "twice those"), _name(WITHOUT, "twice those"))
    price = less(_name(WITH, "none"), _name(WITHOUT, "none"))
    claims: list[Claim] = [
        difference_claim("success lost to the measured delays", hurt, "low > 0"),
        difference_claim("success with the measured delays", helped, "low > 0"),
        difference_claim("success with twice the measured delays", beyond, "low > 0"),
        difference_claim("success without delays", price, f"low > -{NO_WORSE}"),
    ]
    tables = [_table(trained), difference_table("Differences in success", [hurt, helped, beyond, price])]
    return Summary(claims, {"delays": _picture(trained)}, tables, _notes(rows, options))


def _name(arm: str, scale: str) -> str:
    return f"{arm}, run with {scale}"


def _at_every_scale(rows: Sequence[Row]) -> list[Row]:
    """A row of each training for each scale, with its `outcome`, (E,)."""
    return [
        {"arm": _name(row["arm"], scale), "task": row["task"], "seed": row["seed"], "outcome": row["successes"][scale]}
        for row in rows
        for scale in SCALES
    ]


def _success(trained: Sequence[Row], arm: str, task: str) -> tuple[float, Interval | None, int]:
    """Mean over seeds, its interval (None for one seed), and how many seeds."""
    rates = list(seed_means(trained, arm, task, lambda row: row["outcome"]).values())
    episodes = next(len(row["outcome"]) for row in trained if row["task"] == task)
    interval = success_interval([round(rate * episodes) for rate in rates], episodes) if len(rates) > 1 else None
    return sum(rates) / len(rates), interval, len(rates)


def _table(trained: Sequence[Row]) -> Table:
    lines: list[list[str | float | int]] = []
    for task in dict.fromkeys(row["task"] for row in trained):
        for arm in dict.fromkeys(row["arm"] for row in trained):
            mean, interval, seeds = _success(trained, arm, task)
            low, high = ("-", "-") if interval is None else interval
            lines.append([task, arm, mean, low, high, seeds])
    return Table("Success rate", ("task", "policy and robot", "success", "low", "high", "seeds"), lines)


def _notes(rows: Sequence[Row], options: BenchOptions) -> list[str]:
    (row,) = (row for row in rows if row["arm"] == MEASURED)
    timing, cost = row["timing"], row["cost_us"]
    spans = {
        words: f"p50 {timing[name]['p50_ms']:.1f}, p99 {timing[name]['p99_ms']:.1f} ms"
        for name, words in (("observation_age", "observation age"), ("command_latency", "command latency"))
    }
    return [
        f"Measured by real nodes: {'; '.join(f'{words} {span}' for words, span in spans.items())}, of "
        f"{timing['command_latency']['count']} commands at a period of {timing['period_ms']:g} ms. Link and slow "
        "computer are made: samples are 25 to 45 ms under way, inference sleeps 8 to 16 ms more. Delays that stay "
        "within a period change nothing, so smaller ones could show nothing.",
        "Both trainings take equal environment steps and have the same seeds; starts are the same for all. Neither "
        "policy remembers anything: it cannot see how late it is.",
        f"CPU per env step, 64 drawers in a batch, actions of chance: {cost['without']:.0f} us without and "
        f"{cost['with']:.0f} us with delays ({cost['with'] / cost['without'] - 1:+.0%}).",
        "Intervals of success: the hull of Student's over seeds and Wilson's over all episodes.",
    ]


def _picture(trained: Sequence[Row]) -> Figure:
    tasks = list(dict.fromkeys(row["task"] for row in trained))
    figure, panels = plots.panels(len(tasks), width=5.5, height=3.0)
    arms = list(dict.fromkeys(row["arm"] for row in trained))
    for axes, task in zip(panels, tasks, strict=True):
        values = {arm: _success(trained, arm, task) for arm in arms}
        shades = {arm: plots.COLOURS[int(arm.startswith(WITH))] for arm in arms}
        spans = {arm: (i.low, i.high) for arm, (_, i, _) in values.items() if i is not None}
        plots.bars(axes, {arm: mean for arm, (mean, _, _) in values.items()}, spans, shades)
        axes.set(title=f"Success on {task}")
    return figure


BENCH = Bench(cells, run_cell, summarise)
