"""Short rollouts with a camera, and the settings of small cloned policies."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sealegs_learning.evaluation.rollouts import RolloutDataset, roll_out
from sealegs_learning.training.config import TrainConfig


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def seen() -> RolloutDataset:
    """Two episodes of reach by the noisy expert, with the front camera at 10 Hz."""
    return roll_out("reach", "noisy", 2, seed=3, cameras=("front",))


@pytest.fixture
def settings(tmp_path: Path):
    """Settings of a small BC run; keywords go into TrainConfig."""

    def make(**changes) -> TrainConfig:
        defaults = {"out": tmp_path / "run", "learner": "bc", "updates": 12, "batch_size": 16, "hidden": (16,)}
        return TrainConfig(**{**defaults, **changes})

    return make
