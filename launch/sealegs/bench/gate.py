"""Bench `gate`: does the replay gate refuse every seeded bad bundle, and pass the sound ones that they were made from?

Stage 0, a cell a task: bags of behaviours of unequal skill, none of which any policy is trained on. Stage 1: policies
of several learners and seeds, exported and signed; each goes through the gate on every set of bags, and so do the bad
bundles that are made from it. What a bundle is truly worth is measured in simulation beside. The sweep finds the size
from which each badness is noticed.

The shipped thresholds were set on drawer and reach with training seeds 0 and 1; seeds here start at 20, and push was
never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sealegs.bench.frame import Bench, Cell, CellContext
from sealegs.bench.gate_bundles import KINDS, NOMINAL, RESTING, SIBLING, Spoiling, spoil
from sealegs.bench.gate_claims import summarise
from sealegs.bench.options import BenchOptions

if TYPE_CHECKING:
    from sealegs_deploy.bundle import VerifiedBundle
    from sealegs_deploy.gate_replay import GateEpisode
    from sealegs_deploy.gate_thresholds import Verdict
    from sealegs_deploy.signing import SigningKey

BAGS, SWEEP = "bags", "sweep"
LEARNERS = ("iql", "bc")
TASKS = ("drawer", "reach", "push")
SEEDS = (20, 21, 22)
BAG_SEED = 700_000
OTHER_SEED, OTHER_EPISODES = 800_000, 10
TRUTH_SEED = 900_000
GAMMA = 0.99
Values = NDArray[np.float32]
Statistics = tuple[Values, Values, Mapping[str, tuple[Values, Values]]]
"""Mean and deviation (D,) of a policy's training data, and of other data by name."""


def cells(options: BenchOptions) -> list[Cell]:
    """Bags of every task, then every learner and seed; the sweep with the first seed alone."""
    quick = options.quick
    recorded = {"episodes": 8 if quick else 24, "sets": 1 if quick else 3}
    learning = {
        **recorded,
        "logs": 60 if quick else 150,
        "updates": 2_000 if quick else 6_000,
        "spoilings": 1 if quick else 2,
        "starts": 8 if quick else 16,
        "steps": 200,
    }
    found = []
    seeds = options.seeds_or(SEEDS, SEEDS[:1])
    for task in options.tasks_or(TASKS, TASKS[:2]):
        found.append(Cell(BAGS, task, BAG_SEED, recorded))
        found += [Cell(learner, task, seed, learning, stage=1) for learner in LEARNERS for seed in seeds]
        sweep = {"learner": LEARNERS[0], "sizes": 2 if quick else 5, "starts": learning["starts"], "steps": 200}
        found.append(Cell(SWEEP, task, seeds[0], sweep, stage=2))
    return found


def run_cell(cell: Cell, context: CellContext) -> dict[str, Any]:
    """Bags, or verdicts on sound and bad bundles."""
    import torch

    torch.set_num_threads(1)
    if cell.arm == BAGS:
        return _record(cell, context)
    if cell.arm == SWEEP:
        return _sweep(cell, context)
    return _policy(cell, context)


def _record(cell: Cell, context: CellContext) -> dict[str, Any]:
    """Sets of bags that are gated on, each of episodes of its own."""
    from sealegs.collect import CollectConfig, collect

    successes, count = 0, int(cell.settings["episodes"])
    for number in range(int(cell.settings["sets"])):
        out = context.folder / f"set{number}"
        seed = cell.seed + 1_000 * number
        done = collect(CollectConfig(out, cell.task, episodes=count, seed=seed, images=False, jobs=1))
        successes += done.successes
        context.progress(number + 1, int(cell.settings["sets"]))
    return {"episodes": count * int(cell.settings["sets"]), "successes": successes}


class _Workshop:
    """A policy's bundle, the key that signs here, and the bags that it is gated on."""

    def __init__(self, cell: Cell, context: CellContext, folder: Path) -> None:
        from sealegs_deploy.signing import create_key, load_key

        self.cell, self.folder = cell, folder
        self._bags = context.folder_of(BAGS, cell.task, BAG_SEED)
        path = folder / "key.pem"
        create_key(path)
        self.key: SigningKey = load_key(path)
        self._recordings: dict[int, Sequence[GateEpisode]] = {}

    def load(self, path: Path) -> VerifiedBundle:
        """A bundle that was signed here."""
        from sealegs_deploy.bundle import load_bundle

        return load_bundle(path, trusted_public_keys=(self.key.public_key,))

    def judged(self, bundle: VerifiedBundle, number: int) -> tuple[Verdict, ...]:
        """The gate's verdicts on a set of bags."""
        from sealegs.gate.bags import read_recording
        from sealegs_deploy.gate import examine
        from sealegs_deploy.gate_thresholds import default_thresholds, judge

        robot = bundle.manifest.robot
        if number not in self._recordings:
            recording = read_recording([self._bags / f"set{number}"], bundle.manifest, robot)
            self._recordings[number] = recording.episodes
        found = examine(bundle, robot, self._recordings[number], default_thresholds())
        return judge(found.figures, default_thresholds())

    def entry(self, bundle: VerifiedBundle, number: int) -> dict[str, Any]:
        """A row's part about one bundle on one set of bags."""
        lines = self.judged(bundle, number)
        figures = {line.threshold: round(line.value, 5) for line in lines if line.value is not None}
        return {"set": number, "failed": [line.threshold for line in lines if not line.passed], "figures": figures}

    def worth(self, bundle: VerifiedBundle, settings: Mapping[str, Any]) -> dict[str, float]:
        """Mean discounted progress and success in simulation."""
        from sealegs.bench.fqe_policies import true_values
        from sealegs.gate.value import BundlePolicy

        policy, starts = BundlePolicy(bundle), int(settings["starts"])
        found = true_values(policy, self.cell.task, GAMMA, starts, int(settings["steps"]), TRUTH_SEED)
        return {"return": round(float(found.returns.mean()), 4), "success": float(found.success.mean())}


def _policy(cell: Cell, context: CellContext) -> dict[str, Any]:
    from sealegs.exporting import export_checkpoint

    c, run = cell.settings, context.folder / "run"
    statistics = _train(cell, run)
    shop = _Workshop(cell, context, context.folder)
    export_checkpoint(run, context.folder / "bundle", shop.key.path, overwrite=True)
    good = shop.load(context.folder / "bundle")
    sets, spoilings = int(c["sets"]), int(c["spoilings"])
    sound = [shop.entry(good, number) for number in range(sets)]
    bad = []
    for count, (kind, size) in enumerate(NOMINAL.items()):
        for k in range(spoilings):
            bad.append(_spoilt(shop, good, kind, size, cell.seed + 100 * k, statistics, k % sets, c))
        context.progress(count + 1, len(NOMINAL))
    return {"sound": sound, "bad": bad, **shop.worth(good, c)}


def _sweep(cell: Cell, context: CellContext) -> dict[str, Any]:
    """Sizes of every badness, on the bundle of the first seed."""
    c = cell.settings
    folder = context.folder_of(str(c["learner"]), cell.task, cell.seed)
    shop = _Workshop(cell, context, folder)
    good, statistics = shop.load(folder / "bundle"), _statistics(cell.task, folder / "run")
    bad = []
    for count, (kind, (_, _, sizes)) in enumerate(KINDS.items()):
        shown = sizes if int(c["sizes"]) >= len(sizes) else (sizes[0], sizes[len(sizes) // 2])
        bad += [_spoilt(shop, good, kind, size, cell.seed + 1, statistics, 0, c) for size in shown]
        context.progress(count + 1, len(KINDS))
    return {"bad": bad, **shop.worth(good, c)}


def _spoilt(
    shop: _Workshop,
    good: VerifiedBundle,
    kind: str,
    size: float,
    seed: int,
    statistics: Statistics,
    number: int,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """One bad bundle, written, signed, loaded and gated like any other, and what it is worth."""
    spoiling = Spoiling(good.manifest, *statistics, size, seed)
    bundle = shop.load(spoil(good, kind, spoiling, shop.folder / "bad", shop.key))
    return {"kind": kind, "size": size, "seed": seed, **shop.entry(bundle, number), **shop.worth(bundle, settings)}


def _train(cell: Cell, out: Path) -> Statistics:
    """Train on logs of its own seed; what bad bundles need to know of its data, and of others."""
    from sealegs_learning.evaluation.rollouts import roll_out
    from sealegs_learning.train import train
    from sealegs_learning.training.config import TrainConfig

    c = cell.settings
    logs = roll_out(cell.task, "mixed", int(c["logs"]), seed=100_000 + 1_000 * cell.seed)
    config = TrainConfig(
        out=out,
        learner="iql" if cell.arm == "iql" else "bc",
        updates=int(c["updates"]),
        seed=cell.seed,
        hidden=(128, 128),
        learning_rate=1e-3,
        resume=True,
    )
    train(config, dataset=logs)
    return _statistics(cell.task, out)


def _statistics(task: str, run: Path) -> Statistics:
    """Mean, deviation, and those of other data: a robot at rest, and the next task, matched by the elements' names."""
    from sealegs_learning.training.checkpoint import load_policy

    policy = load_policy(run)
    mean, deviation = policy.normalizer.mean.numpy(), policy.normalizer.std.numpy()
    _, *resting = _normalisation(task, "still")
    names, *others = _normalisation(TASKS[(TASKS.index(task) + 1) % len(TASKS)], "mixed")
    sibling = mean.copy(), deviation.copy()
    for place, name in enumerate(policy.observation_spec.element_names):
        if name in names:
            for own, other in zip(sibling, others, strict=True):
                own[place] = other[names.index(name)]
    return mean, deviation, {RESTING: (resting[0], resting[1]), SIBLING: sibling}


def _normalisation(task: str, behaviour: str) -> tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.float32]]:
    """Names of the observation's elements, their mean and their deviation."""
    import torch

    from sealegs_learning.evaluation.rollouts import roll_out
    from sealegs_learning.networks import Normalizer

    data = roll_out(task, behaviour, OTHER_EPISODES, seed=OTHER_SEED)
    found = Normalizer.fit(torch.from_numpy(data.state))
    return data.observation_spec.element_names, found.mean.numpy(), found.std.numpy()


BENCH = Bench(cells, run_cell, summarise)
