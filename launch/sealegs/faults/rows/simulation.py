"""Rows about the robot behind the node: a simulator that is driven apart while an episode is collected."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sealegs.faults.counting import Seen, outcome
from sealegs.faults.frame import Fault, Outcome, Trials
from sealegs_contract.errors import SealegsError
from sealegs_contract.robot import RobotProfile
from sealegs_contract.sample import JointSample, PoseSample

if TYPE_CHECKING:
    from sealegs.collect import CollectConfig
    from sealegs_sim.policies import Policy
    from sealegs_sim.simulation import Simulation

TASKS = ("reach", "push", "drawer")
STEPS = 40
ABSURD = 10.0
"""Times the velocity limit: a row with such a speed is bad."""


def _not_a_number(simulation: Simulation, rng: np.random.Generator) -> None:
    simulation.data.qvel[rng.integers(simulation.data.qvel.size)] = np.nan


def _negative_damping(simulation: Simulation, rng: np.random.Generator) -> None:
    """Whatever moves is driven on: speeds grow exponentially."""
    simulation.scene.model.dof_damping[:] = -(10.0 ** rng.uniform(2, 5))


def _giant_step(simulation: Simulation, rng: np.random.Generator) -> None:
    simulation.scene.model.opt.timestep = 10.0 ** rng.uniform(2, 4)


def _giant_push(simulation: Simulation, rng: np.random.Generator) -> None:
    simulation.data.qfrc_applied[:] = 10.0 ** rng.uniform(9, 15)


CAUSES: tuple[Callable[[Simulation, np.random.Generator], None], ...] = (
    _not_a_number,
    _negative_damping,
    _giant_step,
    _giant_push,
)


class Saboteur:
    """A policy that, before its action number `at`, drives the simulation apart."""

    def __init__(self, policy: Policy, at: int, strike: Callable[[], None]) -> None:
        self._policy, self._left, self._strike = policy, at, strike

    def reset(self, rng: np.random.Generator) -> None:
        """As the policy."""
        self._policy.reset(rng)

    def act(self, observation: NDArray[np.float32]) -> NDArray[np.float64]:
        """As the policy."""
        if self._left == 0:
            self._strike()
        self._left -= 1
        return np.asarray(self._policy.act(observation), dtype=np.float64)


def _divergence(trials: Trials) -> Outcome:
    """Collect one good episode, drive the second apart, look at what is stored, and collect it again."""
    import mujoco

    seen = []
    mujoco.set_mju_user_warning(lambda text: None)  # it would write each one into a file in the working folder
    try:
        for number in range(trials.count):
            folder = trials.folder / f"trial-{number}"
            shutil.rmtree(folder, ignore_errors=True)
            seen.append(_trial(number, folder))
            shutil.rmtree(folder)
            trials.progress(number + 1, trials.count)
    finally:
        mujoco.set_mju_user_warning(None)
    causes = ", ".join(cause.__name__.strip("_").replace("_", " ") for cause in CAUSES)
    return outcome(seen, [f"driven apart at random ticks of three tasks, in turn by: {causes}"])


def _trial(number: int, folder: Path) -> Seen:
    from sealegs.collect import CollectConfig, Collector, collect

    rng = np.random.default_rng(number)
    config = CollectConfig(
        out=folder / "bags", task=TASKS[number % len(TASKS)], policy="random", episodes=2, seed=number, images=False,
        jobs=1, steps=STEPS,
    )  # fmt: skip
    cause, at = CAUSES[number % len(CAUSES)], int(rng.integers(1, STEPS - 20))
    said = ""
    with Collector(config) as collector:
        robot, simulation = collector.robot, collector.backend.simulation
        collector.run(0)
        collector.policy = Saboteur(collector.policy, at, lambda: cause(simulation, rng))
        try:
            collector.run(1)
        except SealegsError as error:
            said = str(error)
    bad = sum(_bad_rows(bag, robot) for bag in _bags(config.out))
    failure = _complaint(said, bad, config)
    if not failure:
        collect(config)
        clean = dataclasses.replace(config, out=folder / "clean")
        collect(clean)
        failure = (
            "" if _contents(config.out) == _contents(clean.out) else "the run did not go on as if nothing had been"
        )
    return Seen(failure, float(bad))


def _complaint(said: str, bad: int, config: CollectConfig) -> str:
    """What is wrong after the episode that was driven apart; empty where nothing is."""
    if bad:
        return "bad rows were stored"
    if "diverged" not in said:
        return f"it did not stop for a divergence, but said {said!r}"
    left = sorted(bag.name for bag in _bags(config.out))
    return "" if left == ["episode_0000"] else f"the folder holds {', '.join(left)}"


def _bags(out: Path) -> list[Path]:
    return sorted({path.parent for path in out.rglob("*.mcap")})


def _bad_rows(bag: Path, robot: RobotProfile) -> int:
    """Stored samples with a value that is not finite, or with a speed that no such robot has."""
    return sum(not _sane(sample, robot) for sample in _samples(bag))


def _samples(bag: Path) -> Iterator[JointSample | PoseSample]:
    from sealegs_learning.data.bag import Bag

    for message in Bag(bag).messages():
        if isinstance(message.sample, JointSample | PoseSample):
            yield message.sample


def _sane(sample: JointSample | PoseSample, robot: RobotProfile) -> bool:
    if isinstance(sample, PoseSample):
        return bool(np.isfinite(sample.position).all() and np.isfinite(sample.orientation_xyzw).all())
    finite = all(np.isfinite(part).all() for part in (sample.position, sample.velocity, sample.effort))
    fastest = ABSURD * max(joint.velocity_max_rad_s for joint in robot.joints)
    return bool(finite and np.abs(sample.velocity).max() < fastest)


def _contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


FAULTS: tuple[Fault, ...] = (
    Fault(
        19,
        "serial CRC errors, unplug",
        "latch FAULT after k bad cycles",
        trials=0,
        quick=0,
        unverified="there is no serial backend yet",
    ),
    Fault(
        20,
        "simulator diverges",
        "stop, invalidate the episode",
        trials=300,
        quick=12,
        run=_divergence,
        figure="bad rows stored",
        target="== 0",
        settings={"steps": STEPS},
    ),
)
