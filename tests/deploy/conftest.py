"""Fixtures of the deployment tests: a small seeded policy, exported once, and a clock that tests move by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sealegs_contract.errors import ActionError
from sealegs_contract.robot import RobotProfile, load_robot
from sealegs_contract.sample import CommandSample, JointSample, PoseSample
from sealegs_contract.spec import ActionSpec, ObservationSpec, delta_action_spec, observation_spec
from sealegs_deploy.bundle import VerifiedBundle, load_bundle
from sealegs_deploy.controller import Controller
from sealegs_deploy.export import ExportRequest, export_bundle
from sealegs_deploy.gate import Examination, examine
from sealegs_deploy.gate_replay import GateEpisode
from sealegs_deploy.gate_thresholds import default_thresholds
from sealegs_deploy.manifest import Metric, Provenance
from sealegs_deploy.signing import SigningKey, own_key
from sealegs_deploy.states import ControllerConfig


@pytest.fixture(scope="session", autouse=True)
def own_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes the keys of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("config")
        patch.setenv("XDG_CONFIG_HOME", str(folder))
        torch.set_num_threads(1)
        yield folder


class SmallPolicy(torch.nn.Module):
    """tanh(W2 relu(W1 (x - mean) / std)), seeded."""

    def __init__(self, observed: int, moved: int, hidden: int = 64) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.first = torch.nn.Parameter(torch.randn(hidden, observed, generator=generator) / observed**0.5)
        self.second = torch.nn.Parameter(torch.randn(moved, hidden, generator=generator) / hidden**0.5)
        self.register_buffer("mean", torch.randn(observed, generator=generator))
        self.register_buffer("std", torch.rand(observed, generator=generator) + 0.2)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(((observation - self.mean) / self.std) @ self.first.T)
        return torch.tanh(hidden @ self.second.T)


@pytest.fixture(scope="session")
def robot() -> RobotProfile:
    return load_robot("so101")


@pytest.fixture(scope="session")
def observed(robot: RobotProfile) -> ObservationSpec:
    return observation_spec(robot, ("gripper", "handle"))


@pytest.fixture(scope="session")
def moved(robot: RobotProfile) -> ActionSpec:
    return delta_action_spec(robot)


@pytest.fixture(scope="session")
def module(observed: ObservationSpec, moved: ActionSpec) -> SmallPolicy:
    return SmallPolicy(observed.size, moved.size).eval()


@pytest.fixture(scope="session")
def request_(robot: RobotProfile, observed: ObservationSpec, moved: ActionSpec) -> ExportRequest:
    return ExportRequest(
        name="small",
        robot=robot,
        observation=observed,
        action=moved,
        provenance=Provenance(task="drawer", learner="iql", dataset_fingerprint="ab" * 32, training={"seed": 0}),
        metrics=(Metric(name="success_rate", value=0.9, interval=(0.83, 0.95), episodes=100),),
    )


@pytest.fixture(scope="session")
def key(own_configuration: Path) -> SigningKey:
    return own_key()


@pytest.fixture(scope="session")
def exported(
    module: SmallPolicy, request_: ExportRequest, key: SigningKey, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """One exported bundle; tests that change it take `bundle_path`, a copy."""
    out = tmp_path_factory.mktemp("exported") / "bundle"
    export_bundle(module, request_, out, key)
    return out


@pytest.fixture
def bundle_path(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def bundle(exported: Path) -> VerifiedBundle:
    return load_bundle(exported)


class Clock:
    """A host clock that stands still until told otherwise."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000

    def __call__(self) -> int:
        return self.ns

    def advance_ms(self, milliseconds: float) -> None:
        self.ns += round(milliseconds * 1e6)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def samples_at(robot: RobotProfile) -> Callable[..., list[Any]]:
    """samples_at(stamp_ns, position): poses, then joints, of one moment, as the robot node publishes them."""

    def make(stamp_ns: int, position: Any = None) -> list[Any]:
        q = np.asarray(robot.home_rad if position is None else position, dtype=np.float64)
        zeros = np.zeros(len(q))
        quaternion = np.array([0.0, 0.0, 0.0, 1.0])
        poses = [
            PoseSample(stamp_ns, name, "base_link", np.array([0.2, 0.01 * i, 0.1]), quaternion)
            for i, name in enumerate(("gripper", "handle"))
        ]
        return [*poses, JointSample(stamp_ns, robot.joint_names, q, zeros, zeros)]

    return make


PERIOD_NS = 20_000_000
START_NS = 10_000 * 10**9


class FixedPolicy:
    """The same output, in rad, whatever is seen; `seen` keeps what that was."""

    def __init__(self, output: np.ndarray) -> None:
        self.output = output
        self.seen: list[np.ndarray] = []
        self.before: Callable[[], None] = lambda: None

    def infer(self, observation: np.ndarray, images: object) -> np.ndarray:
        self.before()
        self.seen.append(observation.copy())
        if not np.isfinite(self.output).all():
            raise ActionError("policy output is not finite")
        return self.output.copy()


class Rig:
    """A controller, its policy, the host's clock, and a robot that stands at home unless told otherwise."""

    def __init__(
        self, bundle: VerifiedBundle, robot: RobotProfile, clock: Clock, samples_at: Any, **config: Any
    ) -> None:
        self.robot, self.clock, self.samples_at = robot, clock, samples_at
        self.policy = FixedPolicy(np.zeros(len(robot.joints)))
        self.controller = Controller(robot, ControllerConfig(**config), host_ns=clock)
        self.controller.configure_policy(bundle.manifest, self.policy)
        self.now = START_NS

    def push(self, position: Any = None, stamp_ns: int | None = None) -> None:
        for sample in self.samples_at(self.now if stamp_ns is None else stamp_ns, position):
            self.controller.push(sample)

    def wait(self, milliseconds: float = 20.0) -> None:
        self.clock.advance_ms(milliseconds)
        self.now += round(milliseconds * 1e6)

    def step(self, position: Any = None) -> CommandSample | None:
        """One period: time passes, all streams arrive, tick."""
        self.wait()
        self.push(position)
        return self.controller.tick(self.now)

    def armed(self) -> Rig:
        self.push()
        self.controller.arm(self.now)
        return self


@pytest.fixture
def make_rig(bundle: VerifiedBundle, robot: RobotProfile, clock: Clock, samples_at: Any) -> Callable[..., Rig]:
    """make_rig(bundle, **config): a rig of any bundle, under any configuration."""
    return lambda given=bundle, **config: Rig(given, robot, clock, samples_at, **config)


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig()


@pytest.fixture
def episode(robot: RobotProfile, samples_at: Any) -> GateEpisode:
    """Three seconds at 50 Hz, commanded on the way to 0.3 rad, with a gap of half a second."""
    samples: list[Any] = []
    for k in range(150):
        stamp = 10**9 + k * robot.control_period_ns + (500_000_000 if k >= 75 else 0)
        position = robot.home_rad + 0.002 * k
        samples += samples_at(stamp, position)
        samples.append(
            CommandSample(stamp, robot.joint_names, position[None] + 0.01 * np.sin(k), (5 * robot.control_period_ns,))
        )
    return GateEpisode("one", samples, True)


@pytest.fixture
def examined(bundle: VerifiedBundle, robot: RobotProfile, episode: GateEpisode) -> Examination:
    """What the gate finds of the random policy, over five such episodes."""
    return examine(bundle, robot, [episode] * 5, default_thresholds())
