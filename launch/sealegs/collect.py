"""Simulated episodes as bags, in process: backend, decoder, guard, topics and serialisers of the live nodes, no DDS.

Tick t: publish the state at stamp t (objects, joints, then images that are due), then the command computed from it,
with stamp t; the world moves on under the guarded command. Log times are simulated, so equal seeds give equal bags.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.action import ActionDecoder
from sealegs_contract.cameras import cameras_due
from sealegs_contract.episode import EpisodeInfo, Outcome, SuccessMonitor
from sealegs_contract.errors import BagError, SpecError
from sealegs_contract.guard import Guard, JointLimits
from sealegs_contract.observation import ObservationAssembler
from sealegs_contract.robot import RobotProfile, load_robot
from sealegs_contract.sample import CommandSample, JointSample, PoseSample

if TYPE_CHECKING:
    from sealegs_ros.bag import BagWriter
    from sealegs_sim.backend import MujocoBackend
    from sealegs_sim.policies import Policy

PARTIAL = ".partial"
START_NS = 1_000_000_000
POLICY_STREAM = 1  # second word of a policy's seed sequence, so that it shares no numbers with the start


@dataclass(frozen=True)
class CollectConfig:
    """Options of `sealegs collect`."""

    out: Path
    """Folder for the bags; complete ones in it are kept, so an interrupted run goes on where it stopped."""
    task: str = "drawer"
    """Task: reach, push or drawer."""
    policy: str = "mixed"
    """Behaviour: scripted, noisy, random, still, or mixed (operators of unequal skill)."""
    episodes: int = 10
    """Number of episodes."""
    seed: int = 0
    """Episode i uses seed + i; equal seeds give equal bags."""
    robot: str = "so101"
    """Robot: a shipped profile's name, or a profile file."""
    cameras: tuple[str, ...] | None = None
    """Cameras to record; all of the robot's unless named."""
    images: bool = True
    """--no-images records no cameras, which is much faster."""
    jobs: int = 2
    """Processes to share the work."""
    steps: int | None = None
    """Control steps of an episode; the task's horizon unless given."""


@dataclass(frozen=True)
class EpisodeResult:
    """One collected episode."""

    path: Path
    seed: int
    outcome: Outcome
    operator: str
    skipped: bool = False


@dataclass(frozen=True)
class CollectResult:
    """All episodes in the order of their seeds."""

    episodes: tuple[EpisodeResult, ...]

    @property
    def paths(self) -> list[Path]:
        """The bags."""
        return [episode.path for episode in self.episodes]

    @property
    def successes(self) -> int:
        """Episodes that achieved their task."""
        return sum(episode.outcome is Outcome.SUCCESS for episode in self.episodes)


Progress = Callable[[int, int], None]


def collect(config: CollectConfig, progress: Progress | None = None) -> CollectResult:
    """Write `config.episodes` bags OUT/episode_NNNN, skipping those that an earlier run completed.

    progress: called with (done, total), first with what an earlier run had completed. Raises BagError when OUT holds
    episodes of another configuration, SimulationError for an unknown task or policy, MachineError where this machine
    cannot render.
    """
    # Imported before any child starts: the ROS wheels re-execute Python once to set its library path.
    importlib.import_module("sealegs_ros.conversions")
    from sealegs_sim.policies import make_policy
    from sealegs_sim.randomize import ranges_of

    for name, number in (("episodes", config.episodes), ("jobs", config.jobs), ("steps", config.steps)):
        if number is not None and number < 1:
            raise SpecError(f"{name} must be at least 1, got {number}")
    robot = load_robot(config.robot)
    recorded_cameras(config, robot)
    ranges_of(robot)  # nothing is drawn here; what is wrong with them comes out before anything is written
    make_policy(config.policy, config.task, robot)
    config.out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(config.out / PARTIAL, ignore_errors=True)
    done = {i: result for i in range(config.episodes) if (result := _completed(config, robot, i)) is not None}
    if progress:
        progress(len(done), config.episodes)
    todo = [i for i in range(config.episodes) if i not in done]
    try:
        for index, result in _run_all(config, todo):
            done[index] = result
            if progress:
                progress(len(done), config.episodes)
    finally:
        shutil.rmtree(config.out / PARTIAL, ignore_errors=True)
    return CollectResult(tuple(done[i] for i in range(config.episodes)))


def _run_all(config: CollectConfig, todo: Sequence[int]) -> Iterator[tuple[int, EpisodeResult]]:
    if not todo:
        return
    if config.jobs == 1 or len(todo) == 1:
        with Collector(config) as collector:
            for index in todo:
                yield index, collector.run(index)
        return
    context = multiprocessing.get_context("spawn")
    jobs = min(config.jobs, len(todo))
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(config,))
    try:
        futures: dict[Future[EpisodeResult], int] = {pool.submit(_work, index): index for index in todo}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker: list[Collector] = []


def _start_worker(config: CollectConfig) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops the work
    os.environ.setdefault("LP_NUM_THREADS", "0")  # each process renders on its own core, without llvmpipe's threads
    _worker.append(Collector(config))


def _work(index: int) -> EpisodeResult:
    return _worker[0].run(index)


def operator_of(policy: Policy) -> str:
    """Name of the operator that a behaviour of many operators drew for this episode; empty for all others."""
    return str(getattr(getattr(policy, "operator", None), "name", ""))


def recorded_cameras(config: CollectConfig, robot: RobotProfile) -> tuple[str, ...]:
    """Cameras that bags of this run hold. Raises ProfileError for one that the robot lacks."""
    names = config.cameras
    if names is None:
        names = tuple(camera.name for camera in robot.cameras)
    for name in names:
        robot.camera(name)
    return names if config.images else ()


def episode_folder(out: Path, index: int) -> Path:
    """Bag of episode `index`."""
    return out / f"episode_{index:04d}"


def _completed(config: CollectConfig, robot: RobotProfile, index: int) -> EpisodeResult | None:
    """The episode if it is complete already; a partial one is removed. Raises BagError for a foreign one."""
    from sealegs_learning.data.bag import Bag

    folder = episode_folder(config.out, index)
    if not folder.exists():
        return None
    if not (folder / "metadata.yaml").exists():
        if any(path.suffix not in {".mcap", ".tmp"} for path in folder.iterdir()):
            raise BagError(f"{folder} is in the way: it is no bag of this run")
        shutil.rmtree(folder)
        return None
    info, profile = Bag(folder).metadata()
    wanted = (config.task, config.policy, config.seed + index, robot.digest)
    found = (info.task, info.policy, info.seed, profile.digest) if info and profile else None
    if info is None or found != wanted:
        raise BagError(
            f"{folder} is an episode of another run (task, policy, seed, profile {_short(found)}, expected "
            f"{_short(wanted)}); choose another --out"
        )
    return EpisodeResult(folder, config.seed + index, info.outcome, info.operator, skipped=True)


def _short(values: tuple[object, ...] | None) -> str:
    return ", ".join(str(value)[:12] for value in values) if values else "none"


class Collector:
    """Runs episodes one after another on one simulated robot. A context: it owns the renderer."""

    def __init__(self, config: CollectConfig) -> None:
        from sealegs_sim.backend import MujocoBackend
        from sealegs_sim.policies import make_policy
        from sealegs_sim.tasks import get_task

        self.config = config
        self.robot = load_robot(config.robot)
        self.task = get_task(config.task)
        self.cameras = recorded_cameras(config, self.robot)
        self.backend: MujocoBackend = MujocoBackend(self.robot, self.task, render=bool(self.cameras))
        self.backend.connect()
        self.policy: Policy = make_policy(config.policy, self.task, self.robot)
        self.spec = self.task.observation_spec(self.robot)
        self.actions = self.task.action_spec(self.robot)
        self.assembler = ObservationAssembler(self.spec)
        self.decoder = ActionDecoder(self.actions)
        limits, relative = JointLimits.from_profile(self.robot), self.actions.kind == "joint_delta"
        self.guard = Guard(limits, 1.0 / self.robot.control_rate_hz, relative=relative)
        self._shift_ns = 0
        self.validity_ns = round(self.robot.watchdog.command_timeout_ms * 1e6)

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *_: object) -> None:
        self.backend.close()

    def run(self, index: int) -> EpisodeResult:
        """Collect episode `index`; its bag appears under its name only when it is complete."""
        from sealegs_ros.bag import BagWriter

        seed = self.config.seed + index
        self.policy.reset(np.random.default_rng([seed, POLICY_STREAM]))
        operator = operator_of(self.policy)
        info = EpisodeInfo(
            task=self.task.name, task_text=self.task.text, operator=operator, policy=self.config.policy, origin="sim",
            robot=self.robot.name, profile_digest=self.robot.digest, seed=seed,
        )  # fmt: skip
        final = episode_folder(self.config.out, index)
        partial = self.config.out / PARTIAL / final.name
        # Faster than real time, a wall-clock flush would cut chunks at random: `_episode` cuts them by simulated time.
        writer = BagWriter(partial, self.robot, info, flush_ms=1e9)
        try:
            outcome = Outcome.SUCCESS if self._episode(writer, seed) else Outcome.FAILURE
            writer.close(outcome)
        except BaseException:
            writer.discard()
            raise
        partial.rename(final)
        return EpisodeResult(final, seed, outcome, operator)

    def _episode(self, writer: BagWriter, seed: int) -> bool:
        self.backend.reset(seed)
        # The backend's time goes on across resets; a bag's starts anew, so that it does not depend on earlier episodes.
        self._shift_ns = START_NS - self.backend.now_ns()
        self.assembler.reset()
        monitor = SuccessMonitor(self.task.hold_steps)
        steps = self.config.steps or self.task.horizon_steps
        writer.write_task(START_NS)
        self.guard.reset(self.backend.read().position)
        for step in range(steps + 1):
            observation = self._publish(writer, step)
            if step:
                monitor.update(bool(self.task.achieved(self.spec.split(observation))))
            if step == steps:
                break
            self._command(writer, observation)
            # A damaged chunk costs this much of the episode, and no more.
            if (step + 1) % round(self.robot.control_rate_hz) == 0:
                writer.flush()
        return monitor.succeeded

    def _publish(self, writer: BagWriter, step: int) -> NDArray[np.float32]:
        """Write the state as the robot node publishes it; the observation vector (D,)."""
        from sealegs_contract import topics
        from sealegs_ros.conversions import clock_message

        now_ns = self.backend.now_ns() + self._shift_ns
        writer.write_message(topics.CLOCK, clock_message(now_ns), now_ns)
        samples: list[PoseSample | JointSample] = [*self.backend.object_poses(), self.backend.read()]
        for sample in samples:
            sample = replace(sample, stamp_ns=now_ns)
            writer.write(sample, now_ns)
            self.assembler.push(sample)
        scheduled = cameras_due(self.robot, step)
        due = [name for name in self.cameras if name in scheduled]
        for image in self.backend.images(due):
            writer.write(replace(image, stamp_ns=now_ns), now_ns)
        return self.assembler.assemble(now_ns).vector

    def _command(self, writer: BagWriter, observation: NDArray[np.float32]) -> None:
        """One action: decode, guard, record with stamp t, and move the world one period under it."""
        now_ns = self.backend.now_ns() + self._shift_ns
        action = np.clip(np.asarray(self.policy.act(observation), dtype=np.float64), -1.0, 1.0)
        measured = self.assembler.joint_position(self.actions.joints)
        target = self.decoder.decode(self.actions.to_output(action), self.guard.position, measured)
        command = self.guard(target).position
        sample = CommandSample(now_ns, self.actions.joints, command[None], (self.validity_ns,))
        writer.write(sample, now_ns)
        self.backend.write(command)
        self.backend.advance()
