"""The policies of bench `fqe`: many qualities from one set of logs, and what each is truly worth."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sealegs.bench.frame import Cell, Progress
from sealegs_learning.evaluation.policy_value import actions_of
from sealegs_learning.evaluation.rollouts import RolloutDataset, roll_out
from sealegs_learning.train import train
from sealegs_learning.training.checkpoint import load_policy
from sealegs_learning.training.config import TrainConfig

TRAININGS = (
    ("iql", "true", 250), ("iql", "true", 1_000), ("iql", "true", 5_000), ("iql", "constant", 1_000),
    ("iql", "constant", 5_000), ("bc", "", 250), ("bc", "", 1_000), ("bc", "", 5_000),
)  # fmt: skip
"""Learner, reward, updates."""
BEST = "iql true 5000"
FACTORS = (-1.0, 0.0, 0.3, 0.6)
"""The best policy, slower, standing still, and backwards."""
NOISES = (0.1, 0.3)


class Truth(NamedTuple):
    """Discounted returns and success of episodes (n,)."""

    returns: NDArray[np.float64]
    success: NDArray[np.bool_]


class Scaled(nn.Module):
    """A policy's actions times a factor."""

    def __init__(self, policy: nn.Module, factor: float) -> None:
        super().__init__()
        self.policy, self.factor = policy, factor

    def forward(self, observation: Tensor) -> Tensor:
        """Actions (B, J) for raw observations (B, D)."""
        action: Tensor = self.policy(observation)
        return self.factor * action


def make_policies(cell: Cell, folder: Path, progress: Progress) -> tuple[RolloutDataset, dict[str, nn.Module]]:
    """The seed's logs and its policies by name, trained in stage 0; what `folder` has is not trained again."""
    data = roll_out(cell.task, "mixed", int(cell.settings["episodes"]), seed=100_000 * cell.seed)
    policies: dict[str, nn.Module] = {}
    for number, (learner, reward, updates) in enumerate(TRAININGS):
        name = " ".join(filter(None, (learner, reward, str(updates))))
        out = folder / name.replace(" ", "_")
        config = TrainConfig(
            out=out,
            learner="iql" if learner == "iql" else "bc",
            reward=reward or "constant",
            updates=max(1, round(updates * float(cell.settings["share"]))),
            seed=cell.seed,
            resume=True,
        )
        if cell.stage == 0:  # later cells only read, several at a time
            train(config, dataset=data)
        policies[name] = load_policy(out)
        progress(number + 1, len(TRAININGS))
    best = policies[BEST]
    policies |= {f"best, actions x {factor:g}": Scaled(best, factor) for factor in FACTORS}
    policies |= {f"best, weights + {noise:g}": perturbed(best, noise, cell.seed) for noise in NOISES}
    return data, policies


def perturbed(policy: nn.Module, noise: float, seed: int) -> nn.Module:
    """A copy whose weights have noise of this share of their own deviation."""
    other, generator = copy.deepcopy(policy), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in other.parameters():
            if weights.ndim == 2:
                weights.add_(noise * weights.std() * torch.randn(weights.shape, generator=generator))
    return other


def true_values(policy: nn.Module, task: str, gamma: float, starts: int, steps: int, seed: int = 50_000) -> Truth:
    """sum_t gamma^t progress_{t+1} over `steps` steps from fresh starts; the last progress is taken to last."""
    from dataclasses import replace

    from sealegs_sim.tasks import get_task
    from sealegs_sim.vector import BatchEnv

    env = BatchEnv(replace(get_task(task), horizon_steps=steps), num_envs=starts)
    try:
        observation, info = env.reset(seed=seed)
        returns = np.zeros(starts)
        for t in range(steps):
            observation, reward, _, _, info = env.step(actions_of(policy, torch.from_numpy(observation)).numpy())
            returns += gamma**t * reward
    finally:
        env.close()
    tail = gamma**steps / (1.0 - gamma) * np.asarray(info["progress"])
    return Truth(returns + tail, np.asarray(info["success"]))
