"""Bench `iql`: returns and speed of our IQL against d3rlpy's and an eager loop, on data made here.

Controls: IQL on a constant reward, and behaviour cloning. Returns are normalised: 0 random, 100 the data's expert.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sealegs.bench import plots
from sealegs.bench.frame import Bench, Cell, CellContext, Row, Summary, Table
from sealegs.bench.options import BenchOptions
from sealegs.bench.over_seeds import Difference, difference_claim, difference_table, paired_difference
from sealegs_learning.results import Claim

DATA, SPEED = "data", "speed"
TASKS = ("HalfCheetah-v5/replay", "Hopper-v5/medium-expert", "Walker2d-v5/medium")
"""One of each kind and robot; --tasks takes any ROBOT/KIND."""
MARGIN = 5.0
"""Normalised points within which returns count as equal."""


def cells(options: BenchOptions) -> list[Cell]:
    """Data of every robot, then every arm on every dataset, then the speeds on the first dataset alone."""
    from sealegs.bench.iql_arms import ARMS, corl_file

    tasks = options.tasks_or(TASKS)
    making = _making(options.quick)
    device = {} if options.device == "cpu" else {"device": options.device}
    learning = {**_learning(options.quick), **device}
    timing: dict[str, Any] = {"rounds": 4, "block": 20} if options.quick else {"rounds": 12, "block": 100}
    timing |= {"corl": corl_file(options.peers_folder).is_file(), **device}
    robots = dict.fromkeys(task.split("/")[0] for task in tasks)
    seeds = options.seeds_or((0, 1, 2))
    first = min(seeds)  # makes the data, which all seeds then learn from
    found = [Cell(DATA, robot, first, making) for robot in robots]
    for task in tasks:
        for seed in seeds:
            found += [Cell(arm, task, seed, learning, stage=1) for arm in ARMS]
    return [*found, Cell(SPEED, tasks[0], first, timing, stage=2)]


def _making(quick: bool) -> dict[str, int]:
    if quick:
        return {"steps": 40_000, "snapshots": 4, "rows": 8_000}
    return {"steps": 1_000_000, "snapshots": 20, "rows": 200_000}


def _learning(quick: bool) -> dict[str, int]:
    return {"updates": 200, "episodes": 5} if quick else {"updates": 15_000, "episodes": 20}


def run_cell(cell: Cell, context: CellContext) -> dict[str, Any]:
    """References of the data, the return of an arm, or updates per second."""
    import torch

    from sealegs.bench import iql_data

    torch.set_num_threads(1)
    if cell.arm == DATA:
        return iql_data.make_data(cell.task, context.folder, seed=cell.seed, progress=context.progress, **cell.settings)
    robot, kind = cell.task.split("/")
    folder = context.folder_of(DATA, robot, min(context.options.seeds_or((0, 1, 2))))
    logs = iql_data.Logs.load(folder / f"{kind}.npz")
    if cell.arm == SPEED:
        rounds, block = int(cell.settings["rounds"]), int(cell.settings["block"])
        return {"updates_per_second": _speeds(logs, context, rounds, block), "device": context.options.device}
    policy = _learn(cell, logs, context)
    rollouts = iql_data.roll_out(robot, iql_data.acting(policy), cell.settings["episodes"], 50_000)
    value = float(rollouts.returns.mean())
    return {"return": value, "normalised": iql_data.normalised(value, folder)}


def _learn(cell: Cell, logs: Any, context: CellContext) -> Any:
    from sealegs.bench import iql_arms

    updates, device = cell.settings["updates"], context.options.device
    transitions = logs.transitions(constant_reward=cell.arm == iql_arms.CONSTANT)
    if cell.arm == iql_arms.D3RLPY:
        request = iql_arms.d3rlpy_request(logs, context.folder, updates, cell.seed, device)
        iql_arms.PEER.run(context, "d3rlpy_iql.py", request)
        return iql_arms.read_actor(context.folder / "d3rlpy_weights.npz", transitions.normalizer)
    transitions = transitions.to(device)
    learner = iql_arms.make_learner(cell.arm, transitions, updates, cell.seed)
    return iql_arms.train(learner, transitions, updates, cell.seed, context.progress)


def _speeds(logs: Any, context: CellContext, rounds: int, block: int) -> dict[str, dict[str, list[float]]]:
    from sealegs.bench.iql_speed import measure

    alone = context.options.quick or context.options.device != "cpu"
    return measure(logs, context, rounds, block, (1,) if alone else (1, 2))


def summarise(rows: Sequence[Row], options: BenchOptions) -> Summary:
    """Equal returns, faster than both; controls; all with intervals."""
    from sealegs.bench.iql_claims import speed_claims

    learned = [row for row in rows if row["arm"] not in (DATA, SPEED)]
    speeds = next(row for row in rows if row["arm"] == SPEED)["updates_per_second"]
    tasks = list(dict.fromkeys(row["task"] for row in learned))
    claims = [*_return_claims(learned), *speed_claims(speeds, options.device)]
    figure, axes = plots.panels(len(tasks) + 1, height=2.6)
    arms = list(dict.fromkeys(row["arm"] for row in learned))
    shade = plots.colours(arms)
    for panel, task in zip(axes, tasks, strict=False):
        values = {arm: _normalised(learned, arm, task) for arm in arms}
        means = {arm: float(np.mean(found)) for arm, found in values.items()}
        ranges = {arm: (min(found), max(found)) for arm, found in values.items()}
        plots.bars(panel, means, ranges, shade)
        panel.set_title(task)
        panel.set_xlabel("normalised return, range of seeds")
    one = {arm: float(np.median(rates)) for arm, rates in speeds["1"].items()}
    plots.bars(axes[-1], one, colour=plots.colours([*arms, *one]))
    axes[-1].set_title(f"updates per second, {'one thread' if options.device == 'cpu' else options.device}")
    return Summary(claims, {"iql": figure}, _tables(rows, learned, speeds, tasks, arms), _notes(tasks, options))


def _normalised(rows: Sequence[Row], arm: str, task: str | None = None) -> list[float]:
    return [row["normalised"] for row in rows if row["arm"] == arm and task in (None, row["task"])]


def _return_claims(learned: Sequence[Row]) -> list[Claim]:
    """Paired by seed, the datasets averaged: a seed is one trial, however many datasets it was tried on."""
    targets = _return_targets()
    return [difference_claim("normalised return", one, targets[one.arm, one.control]) for one in _differences(learned)]


def _return_targets() -> dict[tuple[str, str], str]:
    """What must hold of the return of one arm less another's."""
    from sealegs.bench.iql_arms import BC_ARM, BFLOAT16, CONSTANT, D3RLPY, SEALEGS

    equal = f"low > -{MARGIN:g}"
    return {
        (SEALEGS, D3RLPY): equal,
        (BFLOAT16, SEALEGS): equal,
        (SEALEGS, CONSTANT): "low > 0",
        (SEALEGS, BC_ARM): "low > 0",
    }


def _differences(learned: Sequence[Row]) -> list[Difference]:
    return [paired_difference(learned, *pair, lambda row: row["normalised"]) for pair in _return_targets()]


def _tables(
    rows: Sequence[Row], learned: Sequence[Row], speeds: Mapping[str, Any], tasks: Sequence[str], arms: Sequence[str]
) -> list[Table]:
    returns: list[list[str | float | int]] = [
        [task, arm, float(np.mean(found)), float(np.min(found)), float(np.max(found))]
        for task in tasks
        for arm in arms
        if (found := _normalised(learned, arm, task))
    ]
    rates: list[list[str | float | int]] = [
        [arm, int(threads), float(np.median(values))]
        for threads, by_arm in speeds.items()
        for arm, values in by_arm.items()
    ]
    data: list[list[str | float | int]] = [
        [row["task"], kind, row[kind]["rows"], row[kind]["episodes"], row[kind]["return"], row["expert"], row["random"]]
        for row in rows
        if row["arm"] == DATA
        for kind in ("medium", "replay", "medium-expert")
    ]
    return [
        Table(
            "Normalised return after the last update", ("data", "arm", "mean of seeds", "lowest", "highest"), returns
        ),
        difference_table("Differences of normalised return, paired by seed, 95% over seeds", _differences(learned)),
        Table("Updates per second, sampling included", ("arm", "threads", "median"), rates),
        Table("Data", ("robot", "kind", "rows", "episodes", "mean return", "expert", "random"), data),
    ]


def _notes(tasks: Sequence[str], options: BenchOptions) -> list[str]:
    from sealegs.bench.iql_data import KINDS
    from sealegs_sim.locomotion import LOCOMOTION

    making, learning = _making(options.quick), _learning(options.quick)
    return [
        f"{len(tasks)} of the {len(LOCOMOTION) * len(KINDS)} pairs of robot and kind of data were measured: "
        f"{', '.join(tasks)}; --tasks takes any.",
        "The eager arm is plain PyTorch with CORL's structure: a module, an optimiser and a backward for each network. "
        "CORL itself is timed where its algorithms/offline/iql.py lies at PEERS/corl/iql.py.",
        f"Data is PPO's ({making['steps']:,} environment steps a robot), made by the same command: medium, replay and "
        f"medium-expert by {making['snapshots']} snapshots of one run.",
        "Where falling ends an episode (Hopper, Walker2d) a constant reward is no control: it pays for staying alive, "
        "which is most of what these robots earn. HalfCheetah cannot fall; there it teaches nothing. With a reward of "
        "zero every weight is 1, and IQL is BC.",
        f"Few updates ({learning['updates']:,}; the paper has a million), the same for all arms; returns are of "
        f"{learning['episodes']} episodes.",
    ]


BENCH = Bench(cells, run_cell, summarise, on_gpu=True)
