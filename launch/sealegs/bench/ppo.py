"""Bench `ppo`: our PPO and stable-baselines3's with the very same settings, arms side by side within a seed.

Return: of the final policy's mean action, the same starts for both. Speed: environment steps over the wall time of the
whole training, rollouts and updates, on one thread.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sealegs.bench import plots
from sealegs.bench.frame import Bench, Cell, CellContext, Row, Summary, Table
from sealegs.bench.options import BenchOptions
from sealegs.bench.over_seeds import seed_interval
from sealegs.bench.peers import Peer
from sealegs_learning.results import Claim
from sealegs_learning.statistics import success_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS, PEER, ADAPTIVE, TWO_THREADS = "sealegs", "stable-baselines3", "sealegs, KL-adaptive", "sealegs, 2 threads"
VERSION = "2.9.2"
EVALUATION_EPISODES, EVALUATION_SEED = 20, 10_000
SHARED: dict[str, Any] = {
    "envs": 8,
    "horizon": 256,
    "batch_size": 64,
    "epochs": 10,
    "learning_rate": 3e-4,
    "hidden": [64, 64],
    "gamma": 0.99,
    "lam": 0.95,
    "clip": 0.2,
    "value_weight": 0.5,
    "entropy_weight": 0.0,
    "max_gradient_norm": 0.5,
    "normalise_rewards": True,
}
"""The PPO paper's values for MuJoCo, which are stable-baselines3's defaults, with its VecNormalize."""
LARGE = {"horizon": 512, "batch_size": 1024}
"""Large minibatches: the peer's fastest setting, compared for speed only."""
STEPS = {"HalfCheetah-v5": 500_000, "Hopper-v5": 500_000, "reach": 200_000, "push": 400_000, "drawer": 400_000}
ALONE = ("push", "drawer")
"""Tasks that the peer is too slow for in an hour; ours shows that it learns them."""
LARGE_TASK = "HalfCheetah-v5, minibatch 1024"
MARGIN = 0.1
"""Share of the peer's return: ours is not worse where the interval leaves no greater loss."""


def cells(options: BenchOptions) -> list[Cell]:
    """Seed x task x arm. The peer is compared on the walkers and on reach."""
    found: list[Cell] = []
    for seed in options.seeds_or((0, 1, 2)):
        for task in options.tasks_or((*STEPS, LARGE_TASK), ("HalfCheetah-v5", "reach")):
            found += [Cell(arm, task, seed, settings) for arm, settings in _arms(task, options.quick)]
    return found


def _arms(task: str, quick: bool) -> list[tuple[str, dict[str, Any]]]:
    env = task.split(",")[0]
    settings = {**SHARED, "env": env, "steps": 20_000 if quick else STEPS[env]}
    if task == LARGE_TASK:
        settings |= {**LARGE, "steps": 16_384 if quick else 524_288}
        return [(OURS, settings), (PEER, settings), (TWO_THREADS, {**settings, "threads": 2})]
    if env in ALONE:
        return [(OURS, settings)]
    arms = [(OURS, settings), (PEER, settings)]
    if env == "HalfCheetah-v5":
        arms += [(ADAPTIVE, {**settings, "target_kl": 0.01}), (TWO_THREADS, {**settings, "threads": 2})]
    return arms


def run_cell(cell: Cell, context: CellContext) -> dict[str, Any]:
    """Train and evaluate: seconds, steps, learning curve, returns of the final policy."""
    return _peer_cell(cell, context) if cell.arm == PEER else _our_cell(cell, context)


def _peer_cell(cell: Cell, context: CellContext) -> dict[str, Any]:
    import sealegs_contract
    import sealegs_sim
    from sealegs_sim.registration import ENV_IDS

    versions = {name: metadata.version(name) for name in ("mujoco", "gymnasium", "pydantic", "PyYAML")}
    requirements = (f"stable-baselines3=={VERSION}", f"gymnasium[mujoco]=={versions.pop('gymnasium')}")
    peer = Peer("stable_baselines3", requirements + tuple(f"{name}=={version}" for name, version in versions.items()))
    env = cell.settings["env"]
    request = {
        "env": ENV_IDS.get(env, env),
        "seed": cell.seed,
        "settings": dict(cell.settings),
        "episodes": EVALUATION_EPISODES,
        "evaluate_seed": EVALUATION_SEED,
        "paths": [str(Path(module.__path__[0]).parent) for module in (sealegs_sim, sealegs_contract)],
    }
    return peer.run(context, "ppo_stable_baselines3.py", request)


def _our_cell(cell: Cell, context: CellContext) -> dict[str, Any]:
    from sealegs_learning.evaluation.evaluate import evaluate
    from sealegs_learning.learners.settings import PPOSettings
    from sealegs_learning.sessions.online import make_env
    from sealegs_learning.train import train
    from sealegs_learning.training.checkpoint import load_actor
    from sealegs_learning.training.config import TrainConfig
    from sealegs_learning.training.run import read_curve

    s, own = cell.settings, {field.name for field in fields(PPOSettings)}
    config = TrainConfig(
        out=context.folder / "run",
        task=s["env"],
        learner="ppo",
        seed=cell.seed,
        batch_size=s["batch_size"],
        hidden=tuple(s["hidden"]),
        learning_rate=s["learning_rate"],
        checkpoint_every=s["steps"],
        overwrite=True,
        ppo=PPOSettings(randomise=False, **{name: value for name, value in s.items() if name in own}),
    )
    make_env(config)  # imports are not timed, neither here nor for the peer
    wall, cpu = time.perf_counter(), time.process_time()
    report = train(config, lambda done, total, _: context.progress(done, total))
    spent = {"train_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    rows = read_curve(config.out / "train.jsonl")
    curve = [[row["step"], row["episode_return"]] for row in rows if "episode_return" in row]
    outcome = evaluate(load_actor(config.out), s["env"], EVALUATION_EPISODES, EVALUATION_SEED)
    successes = list(outcome.successes) or [False] * outcome.episodes
    return {**spent, "steps": report.done, "curve": curve, "returns": list(outcome.returns), "successes": successes}


def summarise(rows: Sequence[Row], options: BenchOptions) -> Summary:
    """Return and speed of ours over the peer's by task; success on the robot's tasks."""
    groups: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        groups.setdefault(str(row["task"]), {}).setdefault(str(row["arm"]), []).append(row)
    claims: list[Claim] = []
    for task, arms in groups.items():
        if PEER in arms:
            claims += _comparison(task, arms)
        if task in ("reach", *ALONE):
            claims.append(_success(task, arms[OURS]))
    notes = (
        "Both sides: 8 envs, the same network, minibatches, epochs, rates and normalisation, one thread, arms in turn. "
        "Returns are of the final policy's mean action over 20 starts that both get.",
        "Intervals are Student's over seeds; of success, the hull with Wilson's over the starts of all seeds.",
        "Speed is environment steps over the seconds of the whole training. CPU seconds are beside it, since other "
        "work on the machine changes the wall time.",
        "Equal or better is said of the mean difference, not worse of its interval. Over as few as three seeds the "
        "returns of locomotion vary too much to decide either; that the updates are equal is shown number for number "
        "in tests/learning/test_ppo.",
        f"`{LARGE_TASK}` measures speed only. On Hopper the physics (RK4, 4 substeps) alone takes most of the time of "
        "a step, which bounds what faster learning can gain.",
    )
    return Summary(claims, _plots(groups), [_table(groups)], notes)


def _comparison(task: str, arms: Mapping[str, Sequence[Row]]) -> list[Claim]:
    """Claims about one task: the return is equal or better on average, and not worse by `MARGIN`; and the speed."""
    ours, peer = arms[OURS], arms[PEER]
    claims = []
    if task != LARGE_TASK:
        pairs = (("final return", _final(ours), _final(peer)), ("mean return while learning", _area(ours), _area(peer)))
        for name, a, b in pairs:
            gains = (np.array(a) - np.array(b)) / abs(float(np.mean(b)))
            title, span = f"{task}: {name}, ours less stable-baselines3's over the latter", seed_interval(gains)
            mean = float(gains.mean()) if span else None
            claims.append(Claim(f"{title}; equal or better", mean, ">= 0", span))
            words = f"{title}; not worse by a tenth, 95% over seeds"
            claims.append(Claim(words, mean, f"low > -{MARGIN:g}", span))
    for unit, speed in (("second", _speed), ("CPU second", _speed_of_cpu)):
        ratios = [speed(a) / speed(b) for a, b in zip(ours, peer, strict=True)]
        title = f"{task}: environment steps a {unit}, ours / stable-baselines3's"
        span = seed_interval(ratios)
        claims.append(Claim(title, float(np.mean(ratios)), "low >= 3" if span else ">= 3", span))
    return claims


def _success(task: str, rows: Sequence[Row]) -> Claim:
    outcomes = np.array([row["successes"] for row in rows], dtype=np.int64)  # (seeds, starts)
    interval = success_interval(outcomes.sum(axis=1).tolist(), outcomes.shape[1])
    return Claim(f"{task}: success after training, all seeds", float(outcomes.mean()), ">= 0.9", interval)


def _final(rows: Sequence[Row]) -> list[float]:
    return [float(np.mean(row["returns"])) for row in rows]


def _area(rows: Sequence[Row]) -> list[float]:
    """Mean of each learning curve."""
    return [float(np.mean([value for _, value in row["curve"]])) for row in rows]


def _speed(row: Row) -> float:
    return float(row["steps"]) / float(row["train_seconds"])


def _speed_of_cpu(row: Row) -> float:
    return float(row["steps"]) / float(row["cpu_seconds"])


def _table(groups: Mapping[str, Mapping[str, Sequence[Row]]]) -> Table:
    lines: list[list[str | float | int]] = []
    for task, arms in groups.items():
        for arm, rows in arms.items():
            final, knows_success = _final(rows), task in ("reach", *ALONE)
            success = float(np.mean([value for row in rows for value in row["successes"]])) if knows_success else ""
            speeds = [float(np.mean([speed(row) for row in rows])) for speed in (_speed, _speed_of_cpu)]
            returns = float(np.mean(final)), float(np.std(final, ddof=min(1, len(final) - 1)))
            lines.append([task, arm, int(rows[0]["steps"]), *returns, success, *speeds])
    columns = ("task", "arm", "steps", "final return", "sd over seeds", "success", "steps/s", "steps/CPU s")
    return Table("PPO, means over seeds", columns, lines)


def _plots(groups: Mapping[str, Mapping[str, Sequence[Row]]]) -> dict[str, Figure]:
    curves = {task: arms for task, arms in groups.items() if task != LARGE_TASK}
    if not curves:
        return _speed_plot(groups)
    figure, panels = plots.panels(columns=len(curves))
    shades = plots.colours((OURS, PEER, ADAPTIVE, TWO_THREADS))
    for axes, (task, arms) in zip(panels, curves.items(), strict=True):
        for arm, rows in arms.items():
            if arm == TWO_THREADS:
                continue  # the same numbers as one thread
            x, ys = _on_grid(rows)
            plots.curve(axes, x, ys, arm, shades[arm])
        axes.set(title=task, xlabel="environment steps", ylabel="episode return")
        axes.legend()
    return {"learning": figure} | _speed_plot(groups)


def _speed_plot(groups: Mapping[str, Mapping[str, Sequence[Row]]]) -> dict[str, Figure]:
    speeds = {
        f"{arm}, {task}": float(np.mean([_speed(row) for row in rows]))
        for task, arms in groups.items()
        for arm, rows in arms.items()
    }
    bars, (axes,) = plots.panels(width=7.5, height=0.32 * len(speeds) + 1.0)
    tints = plots.colours((OURS, PEER))
    plots.bars(
        axes, speeds, colour={name: tints[PEER if name.startswith(PEER) else OURS] for name in speeds}, unit="/s"
    )
    axes.set(title="speed of the whole training", xlabel="environment steps a second")
    return {"speed": bars}


def _on_grid(rows: Sequence[Row]) -> tuple[Any, Any]:
    """Curves of several seeds on common steps: x (N,), ys (S, N)."""
    first, last = max(row["curve"][0][0] for row in rows), min(row["curve"][-1][0] for row in rows)
    x = np.linspace(first, last, 60)
    return x, np.stack([np.interp(x, *np.array(row["curve"]).T) for row in rows])


BENCH = Bench(cells, run_cell, summarise)
