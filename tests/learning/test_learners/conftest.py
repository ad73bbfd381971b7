"""A point world with a known answer: two joints that move exactly as told, and a goal that the reward knows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from sealegs_contract.robot import RobotProfile, load_robot
from sealegs_contract.spec import ActionSpec, ObservationField, ObservationSpec

JOINTS = ("shoulder_pan", "elbow_flex")
SCALE = 0.1
GOAL = np.array([0.5, -0.4])


@dataclass
class Episode:
    start: int
    length: int
    task: str = "point"


@dataclass
class MemoryData:
    """Rows in memory with the attributes of a dataset."""

    state: np.ndarray
    action: np.ndarray
    episode_index: np.ndarray
    observation_spec: ObservationSpec
    action_spec: ActionSpec
    path: Path = Path("memory")
    robot: RobotProfile = field(default_factory=lambda: load_robot("so101"))
    frames: dict[int, bytes] = field(default_factory=dict)

    @property
    def frame_index(self) -> np.ndarray:
        return np.concatenate([np.arange(n) for n in np.bincount(self.episode_index)])

    @property
    def episodes(self) -> list[Episode]:
        counts = np.bincount(self.episode_index)
        return [Episode(int(s), int(n)) for s, n in zip(np.cumsum(counts) - counts, counts, strict=True)]

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.state.tobytes() + self.action.tobytes()).hexdigest()

    def images(self, camera: str, indices: np.ndarray) -> list[bytes]:
        return [self.frames[int(i)] for i in indices]


def point_specs() -> tuple[ObservationSpec, ActionSpec]:
    spec = ObservationSpec(fields=(ObservationField(kind="joint_position", joints=JOINTS),))
    return spec, ActionSpec(joints=JOINTS, scale_rad=(SCALE, SCALE), offset_rad=(0.0, 0.0))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_data():
    """Build MemoryData of the point world from states and targets."""

    def make(
        state: np.ndarray, action: np.ndarray, episode_index: np.ndarray, path: Path = Path("memory")
    ) -> MemoryData:
        spec, action_spec = point_specs()
        return MemoryData(
            np.asarray(state, np.float32),
            np.asarray(action, np.float32),
            np.asarray(episode_index),
            spec,
            action_spec,
            path,
        )

    return make


@pytest.fixture
def point_world(make_data, tmp_path):
    """Sixty episodes of twenty steps of uniform random actions, so that the mean action is to stay."""
    rng = np.random.default_rng(0)
    states, targets = [], []
    for _ in range(60):
        position = rng.uniform(-1.0, 1.0, 2)
        for _ in range(20):
            states.append(position)
            position = np.clip(position + SCALE * rng.uniform(-1.0, 1.0, 2), -1.0, 1.0)
            targets.append(position)
    return make_data(np.array(states), np.array(targets), np.repeat(np.arange(60), 20), tmp_path / "point")


@pytest.fixture
def goal_reward():
    """Minus the distance to the goal, for states (..., 2)."""
    return lambda state: -np.linalg.norm(np.asarray(state) - GOAL, axis=-1).astype(np.float32)


@pytest.fixture
def final_distance():
    """Mean distance to the goal after forty steps of a policy from a grid of starts."""

    def run(policy: torch.nn.Module) -> float:
        position = np.stack(np.meshgrid(*2 * [np.linspace(-0.8, 0.8, 5)]), -1).reshape(-1, 2)
        with torch.no_grad():
            for _ in range(40):
                action = policy(torch.from_numpy(position.astype(np.float32))).numpy()
                position = np.clip(position + SCALE * action, -1.0, 1.0)
        return float(np.linalg.norm(position - GOAL, axis=-1).mean())

    return run
