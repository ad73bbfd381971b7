"""Closed-loop episodes over ROS 2: starts the launch files, runs episodes on them, and says how they went.

Two drivers of the same robot node: a policy node with a signed bundle (`drive_bundle`), or a behaviour of the simulator
that commands from here, for recording logs (`record_behaviour`).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sealegs.collect import operator_of
from sealegs.launching.session import LaunchSession
from sealegs.launching.this_host import this_host_only
from sealegs_contract.errors import BackendError, BundleError
from sealegs_contract.observation import Observation
from sealegs_contract.robot import RobotProfile, load_robot
from sealegs_contract.sample import CommandSample, FloatArray
from sealegs_deploy.bundle import load_bundle
from sealegs_sim.opengl import require_display
from sealegs_sim.tasks import Task, get_task

if TYPE_CHECKING:
    from sealegs.episode_client import EpisodeClient, EpisodeResult

Progress = Callable[[int, int], None]
COMMAND_VALID_PERIODS = 5
ARMING_S, RETRY_S = 10.0, 0.1


@dataclass(frozen=True)
class DriveOptions:
    """Which episodes, on which robot. `logs` receives the nodes' logs and timing files."""

    task: str
    seeds: tuple[int, ...]
    logs: Path
    robot: str = "so101"
    viewer: bool = False


@dataclass(frozen=True)
class DriveOutcome:
    """Episodes in the order of their seeds, the nodes' own timing, and the frames of episode `filmed`.

    That is the first success, or the first episode where none succeeded.
    """

    episodes: tuple[EpisodeResult, ...]
    timing: dict[str, Any] = field(default_factory=dict)
    robot_timing: dict[str, Any] = field(default_factory=dict)
    film: tuple[bytes, ...] = ()
    filmed: int = 0

    @property
    def successes(self) -> int:
        """Episodes that succeeded."""
        return sum(episode.success for episode in self.episodes)

    def to_json(self) -> dict[str, Any]:
        """Plain data, without the film."""
        return {
            "episodes": [asdict(episode) for episode in self.episodes],
            "successes": self.successes,
            "timing": self.timing,
            "robot_timing": self.robot_timing,
            "filmed": self.filmed,
        }


def isolate() -> None:
    """Keep to this host and to a domain of our own, unless the caller chose one."""
    if "ROS_AUTOMATIC_DISCOVERY_RANGE" not in os.environ:
        for name, value in this_host_only().items():
            os.environ.setdefault(name, value)
    # Domain ids up to 101 are safe on Linux (the ports of higher ones meet the ephemeral range).
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))


@contextmanager
def episode_client(
    robot: RobotProfile, task: Task, film_camera: str | None, check: Callable[[], object]
) -> Iterator[EpisodeClient]:
    """A client on a running ROS context; both are gone afterwards."""
    import rclpy

    from sealegs.episode_client import EpisodeClient

    rclpy.init()
    try:
        client = EpisodeClient(robot, task, film_camera, check)
        try:
            yield client
        finally:
            client.close()
    finally:
        rclpy.try_shutdown()


def drive_bundle(
    bundle: Path, options: DriveOptions, progress: Progress, trusted_keys: str = "", provider: str = "cpu"
) -> DriveOutcome:
    """Launch robot node and policy node with `policy.launch.xml`, arm the policy for each seed, and watch.

    Raises BundleError for a bundle that is not trusted or was trained for another task.
    """
    # The policy node checks all of this again; here it is an answer at once instead of a node that will not arm.
    manifest = load_bundle(bundle, [key for key in trusted_keys.split(":") if key]).manifest
    if manifest.provenance.task not in {"", options.task}:
        raise BundleError(f"{bundle} was trained for task {manifest.provenance.task!r}, not {options.task!r}")
    timing, robot_timing = options.logs / "timing.json", options.logs / "robot_timing.json"
    arguments = {
        "policy_path": str(bundle.resolve()),
        "trusted_keys": trusted_keys,
        "provider": provider,
        # The robot is simulated: older versions are driven to compare them.
        "allow_rollback": "true",
        "timing_path": str(timing.resolve()),
        "robot_timing_path": str(robot_timing.resolve()),
    }

    def episode(client: EpisodeClient, seed: int) -> EpisodeResult:
        return client.run_episode(
            seed, lambda: _arm(client, options.logs), lambda: client.trigger("policy_node/disarm")
        )

    outcome = _run_episodes("policy.launch.xml", arguments, options, episode, progress, film=True)
    return replace(outcome, timing=_read(timing), robot_timing=_read(robot_timing))


def record_behaviour(behaviour: str, bags: Path, options: DriveOptions, progress: Progress) -> DriveOutcome:
    """Launch robot node and recorder with `record.launch.xml` and record one bag per seed, driven by `behaviour`."""
    from sealegs_sim.policies import make_policy

    robot, task = load_robot(options.robot), get_task(options.task)
    policy = make_policy(behaviour, task, robot)

    def start(client: EpisodeClient, seed: int) -> None:
        client.set_parameter("recorder_node", "seed", seed)
        client.set_parameter("recorder_node", "operator", operator_of(policy))
        client.trigger("recorder_node/start_episode")

    def episode(client: EpisodeClient, seed: int) -> EpisodeResult:
        policy.reset(np.random.default_rng(seed))
        commander = BehaviourCommander(robot, task, policy.act)
        result = client.run_episode(seed, lambda: start(client, seed), lambda: None, commander)
        client.set_bool("recorder_node/stop_episode", result.success)
        return result

    arguments = {"bag_dir": str(bags.resolve()), "policy": behaviour}
    return _run_episodes("record.launch.xml", arguments, options, episode, progress, film=False)


def _run_episodes(
    file: str,
    arguments: dict[str, str],
    options: DriveOptions,
    episode: Callable[[EpisodeClient, int], EpisodeResult],
    progress: Progress,
    film: bool,
) -> DriveOutcome:
    """Launch `file`, run `episode` for each seed, and stop everything."""
    if options.viewer:
        require_display("--viewer")
    isolate()
    robot, task = load_robot(options.robot), get_task(options.task)
    options.logs.mkdir(parents=True, exist_ok=True)
    arguments |= {"robot": options.robot, "task": options.task, "use_sim_time": "true"}
    arguments |= {"viewer": str(options.viewer).lower()}
    given = {name: value for name, value in arguments.items() if value}
    camera = robot.cameras[0].name if film and robot.cameras else None
    results: list[EpisodeResult] = []
    frames: list[bytes] = []
    filmed = 0
    with (
        LaunchSession(file, given, log_dir=options.logs, echo=False) as session,
        episode_client(robot, task, camera, session.check) as client,
    ):
        for index, seed in enumerate(options.seeds):
            session.check()
            with _explained(options.logs):
                results.append(episode(client, seed))
            if index == 0 or (results[-1].success and not results[filmed].success):
                filmed, frames = index, client.film
            progress(index + 1, len(options.seeds))
        session.check()
    return DriveOutcome(tuple(results), film=tuple(frames), filmed=filmed)


def _arm(client: EpisodeClient, logs: Path) -> None:
    """Try until the policy node has the robot's streams: it may find them later than this process does."""
    end = time.monotonic() + ARMING_S
    while True:
        try:
            client.trigger("policy_node/arm")
            return
        except BackendError as error:
            if time.monotonic() > end:
                # A refused service does not say why the node is not ready.
                raise _with_complaint(error, logs, "policy_node") from error
        time.sleep(RETRY_S)


@contextmanager
def _explained(logs: Path) -> Iterator[None]:
    """An episode that fails says what the robot node last complained about, such as commands that came too late."""
    try:
        yield
    except BackendError as error:
        raise _with_complaint(error, logs, "robot_node") from error


def _with_complaint(error: BackendError, logs: Path, node: str) -> BackendError:
    complaint = last_complaint(logs, node)
    return BackendError(str(error) if not complaint or complaint in str(error) else f"{error} ({node}: {complaint})")


def last_complaint(logs: Path, node: str) -> str:
    """The newest warning or error in the node's log; empty where there is none."""
    lines = [line for path in logs.glob(f"{node}*.log") for line in path.read_text(errors="replace").splitlines()]
    complaints = [line.rsplit("]: ", 1)[-1] for line in lines if line.startswith(("[ERROR]", "[WARN]"))]
    return complaints[-1] if complaints else ""


class BehaviourCommander:
    """Turns a behaviour's actions into commands through the same decoder and guard that a policy meets."""

    def __init__(self, robot: RobotProfile, task: Task, act: Callable[[np.ndarray], np.ndarray]) -> None:
        from sealegs_sim.control import JointControl

        self._robot = robot
        self._act = act
        self._control = JointControl(robot, task.action_spec(robot))
        self._started = False

    def __call__(self, observation: Observation, measured: FloatArray) -> CommandSample:
        """The next command for an observation and the measured joint position (J,) rad."""
        if not self._started:
            self._control.reset(measured)
            self._started = True
        target = self._control.targets(self._act(observation.vector), measured)
        valid_ns = COMMAND_VALID_PERIODS * self._robot.control_period_ns
        return CommandSample(observation.now_ns, self._robot.joint_names, target[None], (valid_ns,))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BackendError(f"a node left no {path.name} in {path.parent}; see the logs in {path.parent / 'logs'}")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
