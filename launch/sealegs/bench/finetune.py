"""Bench `finetune`: from logs to simulation. Policies of mixed logs go on learning, against learning from nothing.

Stage 0, a cell a seed: logs, and what BC and IQL make of them. Stage 1: each way of going on, at equal environment
steps; evaluations on the same starts along the way.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sealegs.bench import plots
from sealegs.bench.frame import Bench, Cell, CellContext, Row, Summary, Table
from sealegs.bench.options import BenchOptions
from sealegs.bench.over_seeds import OF_SHARES, seed_interval
from sealegs_learning.results import Claim
from sealegs_learning.statistics import Interval, success_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sealegs_learning.training.config import TrainConfig

START = "logs, BC and IQL"
SCRATCH, FROM_BC, FROM_IQL = "PPO from scratch", "PPO from BC", "PPO from IQL"
UNIO4, IQL = "PPO from IQL improved offline (Uni-O4)", "IQL fine-tuning"
ARMS = {SCRATCH: "", FROM_BC: "bc", FROM_IQL: "iql", UNIO4: "iql", IQL: "iql"}
"""Each arm, and which policy of the logs it starts from."""
CONTROL = plots.COLOURS[5]
POINTS = 10
"""Evaluations along the way."""


def cells(options: BenchOptions) -> list[Cell]:
    """The start, then all arms, for every seed and task."""
    quick = options.quick
    start = {"episodes": 20 if quick else 60, "updates": 200 if quick else 2_500, "evaluated": _starts(quick)}
    offline = {"offline": 40 if quick else 200, "fqe_updates": 300 if quick else 4_000}
    steps = {**start, **offline, "steps": 10_240 if quick else 102_400}
    found = []
    for seed in options.seeds_or((0, 1, 2, 3, 4)):
        for task in options.tasks_or(("drawer",)):
            found.append(Cell(START, task, seed, start))
            found += [Cell(arm, task, seed, steps, stage=1) for arm in ARMS]
    return found


def _starts(quick: bool) -> int:
    """Episodes of every evaluation."""
    return 10 if quick else 50


def run_cell(cell: Cell, context: CellContext) -> dict[str, Any]:
    """Success along the way: (environment steps, success, mean final progress), the start included."""
    import torch

    from sealegs_learning.evaluation.rollouts import roll_out
    from sealegs_learning.train import train
    from sealegs_learning.training.checkpoint import load_actor
    from sealegs_learning.training.run import read_curve

    torch.set_num_threads(1)
    logs = roll_out(cell.task, "mixed", int(cell.settings["episodes"]), seed=100_000 * cell.seed)
    if cell.arm == START:
        return {"log_success": logs.success_rate} | _make_starts(cell, context, logs)
    first = ARMS[cell.arm]
    source = context.folder_of(START, cell.task, cell.seed) / first if first else None
    improved: dict[str, Any] = {}
    if cell.arm == UNIO4:
        config = offline_config(cell, context.folder / "offline", source)
        improved = dict(train(config, dataset=logs).last)
        source = config.out
    config = online_config(cell, context.folder / "online", source)
    begun_at = time.process_time()
    train(config, lambda done, total, _: context.progress(done, total), logs)
    cpu_seconds = time.process_time() - begun_at
    curve = [
        [row["step"], row["success"], row["final_progress"]]
        for row in read_curve(config.out / "train.jsonl")
        if "success" in row
    ]
    if source is not None:
        begun = _evaluated(load_actor(source), cell)
        curve = [[0, begun["success"], begun["final_progress"]], *curve]
    return {"curve": curve, "offline": improved, "cpu_seconds": cpu_seconds}


def _make_starts(cell: Cell, context: CellContext, logs: Any) -> dict[str, Any]:
    from sealegs_learning.train import train
    from sealegs_learning.training.checkpoint import load_actor
    from sealegs_learning.training.config import TrainConfig

    found = {}
    for learner in ("bc", "iql"):
        out, updates = context.folder / learner, int(cell.settings["updates"])
        train(TrainConfig(out=out, learner=learner, updates=updates, seed=cell.seed, resume=True), dataset=logs)
        found[learner] = _evaluated(load_actor(out), cell)
    return found


def _evaluated(policy: Any, cell: Cell) -> dict[str, float]:
    """Success and final progress on the starts that the learning curve is measured on."""
    from sealegs_learning.evaluation.evaluate import evaluate

    return dict(evaluate(policy, cell.task, int(cell.settings["evaluated"]), 5_000).figures())


def offline_config(cell: Cell, out: Path, source: Path | None) -> TrainConfig:
    """Offline improvement: candidates of twenty PPO steps, gated by FQE."""
    from sealegs_learning.learners.settings import FQESettings, UniO4Settings
    from sealegs_learning.training.config import TrainConfig

    updates, first = int(cell.settings["offline"]), int(cell.settings["fqe_updates"])
    return TrainConfig(
        out=out,
        learner="unio4",
        init=source,
        updates=updates,
        learning_rate=1e-4,
        unio4=UniO4Settings(gate_updates=first // 4, fqe=FQESettings(updates=first, members=5)),
        seed=cell.seed,
        resume=True,
    )


def online_config(cell: Cell, out: Path, source: Path | None) -> TrainConfig:
    """Learning in simulation. From a policy PPO takes small steps, and its critic is ahead of it by a tenth."""
    from sealegs_learning.learners.settings import FinetuneSettings, PPOSettings
    from sealegs_learning.training.config import TrainConfig

    steps, iql = int(cell.settings["steps"]), cell.arm == IQL
    ppo = PPOSettings(steps=steps, envs=16, horizon=64, randomise=False)
    if source is not None:
        ppo = replace(ppo, clip=0.1, critic_learning_rate=1e-3, critic_steps=steps // 10, finetune_log_std=-1.0)
    return TrainConfig(
        out=out,
        task=cell.task,
        learner="iql" if iql else "ppo",
        init=source,
        learning_rate=5e-5 if source and not iql else 3e-4,
        ppo=ppo,
        finetune=FinetuneSettings(steps=steps if iql else 0, envs=16, randomise=False),
        seed=cell.seed,
        log_every=steps // POINTS,
        checkpoint_every=steps,
        evaluate_every=steps // POINTS,
        evaluate_episodes=int(cell.settings["evaluated"]),
        resume=True,
    )


def summarise(rows: Sequence[Row], options: BenchOptions) -> Summary:
    """Success over all evaluations and at the end by arm, and differences paired by seed."""
    starts = [row for row in rows if row["arm"] == START]
    curves = {arm: np.array([row["curve"] for row in rows if row["arm"] == arm]) for arm in ARMS}
    area = {arm: curve[:, -POINTS:, 1].mean(axis=1) for arm, curve in curves.items()}
    final = {arm: curve[:, -1, 1] for arm, curve in curves.items()}
    begun = {arm: np.array([row[first]["success"] for row in starts]) for arm, first in ARMS.items() if first}
    offline = [row for row in rows if row["arm"] == UNIO4]
    improved = np.array([row["curve"][0][1] for row in offline])
    claims = [
        _difference("success over all evaluations, PPO from IQL less PPO from scratch", area[FROM_IQL] - area[SCRATCH]),
        _difference("success over all evaluations, PPO from BC less PPO from scratch", area[FROM_BC] - area[SCRATCH]),
        _difference("success at the end less at the start, PPO from IQL", final[FROM_IQL] - begun[FROM_IQL]),
        _difference("success at the end less at the start, IQL fine-tuning", final[IQL] - begun[IQL]),
        _difference("success over all evaluations, PPO from IQL less IQL fine-tuning", area[FROM_IQL] - area[IQL]),
        _difference("success after offline improvement less before (Uni-O4)", improved - begun[UNIO4]),
        _difference(
            "success over all evaluations, with offline improvement less without", area[UNIO4] - area[FROM_IQL]
        ),
    ]
    table = Table(
        "Success rate (mean over seeds)",
        ("arm", "at the start", "all evaluations", "95% interval", "at the end", "95% interval"),
        [
            (arm, _start_text(arm, begun, improved), float(area[arm].mean()), _span(seed_interval(area[arm], 0.0, 1.0)),
             float(final[arm].mean()), _span(_success_interval(final[arm], _starts(options.quick))))
            for arm in ARMS
        ],
    )  # fmt: skip
    cost = {arm: np.mean([row["cpu_seconds"] for row in rows if row["arm"] == arm]) for arm in ARMS}
    accepted = [f"{row['offline'].get('accepted', 0):g} of {row['offline'].get('rounds', 0):g}" for row in offline]
    notes = [
        "Equal environment steps for all arms; fine-tuning's own count from zero, the logs being there already. The "
        f"logs hold {np.mean([row['log_success'] for row in starts]):.0%} successes.",
        "Intervals are Student's over seeds, that of success at the end the hull with Wilson's over all episodes; "
        "differences are paired by seed, which decides logs, weights and starts.",
        f"Offline improvement: FQE let {', '.join(accepted)} candidates pass, by seed.",
        "From a checkpoint PPO clips at 0.1 with a rate of 5e-5 and trains only its critic for the first tenth; from "
        "scratch it has the usual 0.2 and 3e-4. IQL takes one gradient update per step, as in its paper, PPO one per "
        "26: equal steps are not equal work. CPU seconds of the steps in simulation, mean of the seeds: "
        f"{', '.join(f'{arm} {seconds:.0f}' for arm, seconds in cost.items())}.",
        "Settings were chosen on seeds 11 to 13.",
    ]
    return Summary(claims, {"curves": _picture(curves)}, [table], notes)


def _difference(claim: str, values: Any) -> Claim:
    """Holds where the interval over seeds is above zero; one seed has no interval, and leaves the claim open."""
    interval = seed_interval(values, *OF_SHARES)
    if interval is None:
        return Claim(f"{claim} (one seed has no interval; its own: {float(values[0]):+.3f})", None, "low > 0")
    return Claim(claim, float(np.mean(values)), "low > 0", interval)


def _start_text(arm: str, begun: Mapping[str, Any], improved: Any) -> str:
    if arm not in begun:
        return "-"
    text = f"{begun[arm].mean():.3f}"
    return f"{text}, then {improved.mean():.3f}" if arm == UNIO4 else text


def _success_interval(rates: Any, episodes: int) -> Interval | None:
    """Over seeds; None for one."""
    return success_interval([round(rate * episodes) for rate in rates], episodes) if len(rates) > 1 else None


def _span(interval: Interval | None) -> str:
    return "-" if interval is None else f"[{interval.low:.3f}, {interval.high:.3f}]"


def _picture(curves: Mapping[str, Any]) -> Figure:
    """From step 0 on where an arm starts from a policy, which for Uni-O4 is the improved one."""
    figure, (axes,) = plots.panels(width=9.5, height=4.0)
    shades = {SCRATCH: CONTROL} | plots.colours([arm for arm in curves if arm != SCRATCH])
    for arm, curve in curves.items():
        plots.curve(axes, curve[0, :, 0], curve[:, :, 1], arm, shades[arm])
    axes.set(title="Success at equal environment steps", xlabel="environment steps", ylabel="success rate", ylim=(0, 1))
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


BENCH = Bench(cells, run_cell, summarise)
