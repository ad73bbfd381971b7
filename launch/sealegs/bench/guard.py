"""Bench `guard`: what a command through the guard costs, and whether any breaks a limit.

Three kinds of cells. `cost`: one robot of seven joints, beside ruckig's step under the same limits and beside clipping
alone, in turns. `batch`: many robots at once. `fuzz`: whole commands against the oracle of `sealegs faults 5`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sealegs.bench.frame import Bench, Cell, CellContext
from sealegs.bench.guard_claims import BATCH, CLIP, COST, FUZZ, GUARD, PEER, STREAMS, summarise
from sealegs.bench.options import BenchOptions
from sealegs.bench.peers import Peer
from sealegs.faults.guard import oracle as guard_oracle
from sealegs.faults.guard.fuzz import RELATIVE_TOLERANCE, STUDIED, draw_targets
from sealegs_contract.errors import available
from sealegs_contract.guard import Guard, JointLimits
from sealegs_contract.robot import load_robot

FloatArray = NDArray[np.float64]
RUCKIG = Peer("ruckig", ("numpy", "ruckig==0.19.4"), torch=False)
PERIOD_S = 0.02
FULL_ACCELERATION_S = 0.05
"""From no acceleration to the limit: the jerk limit that the profiles here are given."""
SIZES = (1, 4, 16, 64, 256, 1024, 4096)
ROBOTS = ("so101", "seven joints")
# Franka Emika Panda: rad, rad/s, rad/s^2 (limits of the Franka Control Interface).
PANDA_LOWER = (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
PANDA_UPPER = (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
PANDA_VELOCITY = (2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61)
PANDA_ACCELERATION = (15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0)


def limits_of(robot: str) -> JointLimits:
    """Limits of a robot of ROBOTS, with a jerk limit that binds."""
    if robot == ROBOTS[0]:
        found = JointLimits.from_profile(load_robot(robot))
        return replace(found, jerk_max=found.acceleration_max / FULL_ACCELERATION_S)
    if robot == ROBOTS[1]:
        lower, upper, velocity, acceleration = map(
            np.array, (PANDA_LOWER, PANDA_UPPER, PANDA_VELOCITY, PANDA_ACCELERATION)
        )
        return JointLimits(lower, upper, velocity, acceleration, acceleration / FULL_ACCELERATION_S)
    raise ValueError(f"no robot {robot!r}; {available(ROBOTS)}")


def cells(options: BenchOptions) -> list[Cell]:
    """Streams of targets, sizes of a batch, and robots to fuzz, by seed."""
    quick = options.quick
    cost = {"rounds": 2 if quick else 10, "calls": 500 if quick else 2_000, "warm_up": 200}
    batch = {"rounds": 2 if quick else 10, "commands": 4_096 if quick else 40_960}
    fuzz = {"commands": 2_000 if quick else 200_000}
    found = []
    for seed in options.seeds_or((0, 1, 2, 3, 4)):
        found += [Cell(COST, stream, seed, cost) for stream in options.tasks_or(STREAMS, STREAMS)]
        found += [Cell(BATCH, str(size), seed, batch) for size in SIZES]
        found += [Cell(FUZZ, robot, seed, fuzz) for robot in ROBOTS]
    return found


def run_cell(cell: Cell, context: CellContext) -> dict[str, Any]:
    """One kind of measurement."""
    return {COST: cost, BATCH: batch, FUZZ: fuzz}[cell.arm](cell, context)


def targets_of(stream: str, rng: np.random.Generator, limits: JointLimits, count: int) -> FloatArray:
    """Targets (count, J) rad of one kind; of `relative`, steps that are added to the last command."""
    lower, upper = limits.position_min, limits.position_max
    shape, width, middle = (count, len(lower)), upper - lower, 0.5 * (lower + upper)
    if stream == "following":  # a motion that the limits allow: it passes unchanged
        t = PERIOD_S * np.arange(count)[:, None]
        phase = rng.uniform(0.0, 2.0 * np.pi, shape[1])
        found = middle + 0.4 * width * np.sin(phase + t * 0.8 * limits.velocity_max / (0.4 * width))
    elif stream == "between the limits":  # each joint turns back at moments of its own
        signs = np.cumprod(np.where(rng.random(shape) < 0.02, -1.0, 1.0), axis=0)
        found = np.where(signs > 0.0, upper, lower)
    elif stream == "random walk":  # folded back 5% beyond the limits
        steps = np.cumsum(rng.normal(0.0, 0.02, shape), axis=0)
        found = middle + 1.1 * width * (np.abs((steps + 0.5) % 2.0 - 1.0) - 0.5)
    elif stream == "noise":
        found = rng.uniform(lower, upper, shape)
    elif stream == "relative":
        found = rng.normal(0.0, 0.5 * PERIOD_S * limits.velocity_max, shape)
    else:
        raise ValueError(f"no stream {stream!r}; {available(STREAMS)}")
    return np.ascontiguousarray(found)


def clipper(limits: JointLimits, start: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """Position and velocity limits by numpy alone: the least that anyone would do, and no protection of the rest."""
    last, most = start, limits.velocity_max * PERIOD_S

    def clip(target: FloatArray) -> FloatArray:
        nonlocal last
        if not np.isfinite(target).all():
            return last
        last = np.clip(np.clip(target, last - most, last + most), limits.position_min, limits.position_max)
        return last

    return clip


def cost(cell: Cell, context: CellContext) -> dict[str, Any]:
    """us a command, by round: by the guard, by clipping, and by ruckig in a process of its own."""
    limits, settings = limits_of(ROBOTS[1]), cell.settings
    rounds, relative = settings["rounds"], cell.task == "relative"
    rng, start = np.random.default_rng(cell.seed), 0.5 * (limits.position_min + limits.position_max)
    guard, clip = Guard(limits, PERIOD_S, relative=relative), clipper(limits, start)
    guard.reset(start)
    targets = targets_of(cell.task, rng, limits, settings["warm_up"] + rounds * settings["calls"])
    callers: dict[str, Callable[[FloatArray], Any]] = {GUARD: guard, CLIP: clip}
    times: dict[str, list[FloatArray]] = {name: [] for name in (*callers, PEER)}
    failed = 0
    for target in targets[: settings["warm_up"]]:
        for call in callers.values():
            call(guard.position + target if relative else target)
    for number, block in enumerate(np.split(targets[settings["warm_up"] :], rounds)):
        names = [GUARD, CLIP] if number % 2 else [CLIP, GUARD]
        for name in names:
            times[name].append(timed(callers[name], block, guard if relative else None))
        if not relative:  # ruckig is given places, not steps
            answer = ask_ruckig(context, limits, start, block, settings["warm_up"])
            times[PEER].append(np.array(answer["us"]))
            failed += answer["failed"]
        context.progress(number + 1, rounds)
    found = {name: figures(values) for name, values in times.items() if values}
    return {"callers": found, "limited": guard.limited, "failed_peer": failed}


def ask_ruckig(
    context: CellContext, limits: JointLimits, start: FloatArray, block: FloatArray, warm_up: int
) -> dict[str, Any]:
    """What ruckig's steps towards the same targets cost, from rest at `start`."""
    np.save(context.folder / "targets.npy", np.concatenate([np.tile(start, (warm_up, 1)), block]))
    request = {
        "targets": str(context.folder / "targets.npy"), "warm_up": warm_up, "period_s": PERIOD_S,
        "velocity": limits.velocity_max.tolist(), "acceleration": limits.acceleration_max.tolist(),
        "jerk": limits.jerk_max.tolist(),
    }  # fmt: skip
    return RUCKIG.run(context, "ruckig_step.py", request)


def timed(call: Callable[[FloatArray], Any], targets: FloatArray, relative_to: Guard | None = None) -> FloatArray:
    """us of each call (n,)."""
    took = np.empty(len(targets))
    for k, target in enumerate(targets):
        given = target if relative_to is None else relative_to.position + target
        began = time.perf_counter_ns()
        call(given)
        took[k] = time.perf_counter_ns() - began
    return took / 1e3


def figures(rounds: Sequence[FloatArray]) -> dict[str, Any]:
    """p50 and p99 over all calls, and the p50 of every round, us."""
    p50, p99 = (float(value) for value in np.percentile(np.concatenate(rounds), [50, 99]))
    return {"p50": p50, "p99": p99, "rounds_p50": [float(np.median(one)) for one in rounds]}


def batch(cell: Cell, context: CellContext) -> dict[str, Any]:
    """us a robot and command, of so many robots of seven joints on random walks of their own."""
    size, limits, settings = int(cell.task), limits_of(ROBOTS[1]), cell.settings
    rng, rounds = np.random.default_rng(cell.seed), settings["rounds"]
    guard = Guard(limits, PERIOD_S, batch=size)
    start = rng.uniform(limits.position_min, limits.position_max, (size, len(limits.velocity_max)))
    guard.reset(start)
    steps, found = max(settings["commands"] // size // rounds, 3), []
    place = (start - limits.position_min) / (limits.position_max - limits.position_min)
    for number in range(rounds):
        walk = place + np.cumsum(rng.normal(0.0, 0.01, (steps, *place.shape)), axis=0)
        place = walk[-1]
        folded = 1.0 - np.abs(walk % 2.0 - 1.0)
        targets = limits.position_min + folded * (limits.position_max - limits.position_min)
        found.append(timed(guard, targets) / size)
        context.progress(number + 1, rounds)
    return {"size": size, **figures(found)}


class Column:
    """One joint of a guard, as `draw_targets` asks for it."""

    def __init__(self, histories: list[FloatArray], joint: int) -> None:
        self._histories, self._joint = histories, joint

    def save(self) -> FloatArray:
        """Its newest history (4, 1)."""
        return self._histories[-1][:, self._joint : self._joint + 1]


def fuzz(cell: Cell, context: CellContext) -> dict[str, Any]:
    """Whole commands of hostile targets, each joint of a kind of its own; what the oracle says of the commands."""
    r, limits, problems, done, runs = random.Random(cell.seed), limits_of(cell.task), list[str](), 0, 0
    while done < cell.settings["commands"]:
        count = min(r.choice([100, 300, 600]), cell.settings["commands"] - done)
        problems += fuzz_run(r, limits, count)
        done, runs = done + count, runs + 1
        context.progress(done, cell.settings["commands"])
    return {"commands": done, "runs": runs, "violations": len(problems), "problems": problems[:5]}


def fuzz_run(r: random.Random, limits: JointLimits, count: int) -> list[str]:
    """One run of `count` commands; what was wrong with it."""
    columns = (limits.position_min, limits.position_max, limits.velocity_max, limits.acceleration_max, limits.jerk_max)
    rows = np.stack(columns, axis=1).tolist()
    joints = [guard_oracle.Limits(lower, upper, v, a, j, PERIOD_S) for lower, upper, v, a, j in rows]
    guard = Guard(limits, PERIOD_S, relative=r.random() < 0.3)
    guard.reset(np.array([r.choice([one.lower, one.upper, r.uniform(one.lower, one.upper)]) for one in joints]))
    histories = [guard.save()]
    drawn = [draw_targets(r, one, count, Column(histories, k)) for k, one in enumerate(joints)]
    problems = []
    for targets in zip(*drawn, strict=True):
        if r.random() < 0.003:
            guard.stop()
        else:
            guard(np.array(targets))
        histories.append(guard.save())
        if r.random() < STUDIED:
            problems += stuck(histories[-1], joints)
    for xs, one in zip(np.array([history[0] for history in histories]).T.tolist(), joints, strict=True):
        for name, excess in guard_oracle.excess(xs, one).items():
            if excess > (0.0 if name == "position" else RELATIVE_TOLERANCE):
                problems.append(f"{name} exceeded by {excess:.3g} under {one}")
    return problems


def stuck(history: FloatArray, joints: Sequence[guard_oracle.Limits]) -> list[str]:
    """The joints that could not stop any more within their limits."""
    found = []
    for (x, step, change, _), one in zip(history.T.tolist(), joints, strict=True):
        size = max(abs(one.lower), abs(one.upper), one.upper - one.lower)
        slack = 1e-9 * min(one.jerk * one.dt**3, one.acceleration * one.dt**2, one.upper - one.lower) + 1e-11 * size
        if not guard_oracle.can_stop(x, step, change, one, slack):
            found.append(f"no stop was possible from {(x, step, change)} under {one}")
    return found


BENCH = Bench(cells, run_cell, summarise)
