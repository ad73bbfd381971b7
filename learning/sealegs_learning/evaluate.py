"""Running a policy in simulation: all episodes in parallel, episode i from seed + i, success with its interval.

Equal seeds mean equal starts, so two policies' evaluations are paired by episode (`statistics.paired_comparison`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sealegs_contract.errors import LearningError
from sealegs_learning.statistics import Interval, bootstrap_mean_interval, wilson_interval

Progress = Callable[[int, int], None]
"""Called as progress(step, steps)."""


@dataclass(frozen=True)
class Evaluation:
    """Outcomes by episode, in the order of the seeds. `returns` are undiscounted sums of progress."""

    task: str
    episodes: int
    seed: int
    successes: tuple[bool, ...]
    final_progress: tuple[float, ...]
    returns: tuple[float, ...]
    seconds: float

    @property
    def success_rate(self) -> float:
        """Share of the episodes in which the task was achieved and held."""
        return sum(self.successes) / self.episodes

    @property
    def success_interval(self) -> Interval:
        """Wilson, 95%."""
        return wilson_interval(sum(self.successes), self.episodes)

    @property
    def mean_final_progress(self) -> float:
        """Mean progress of the last frames."""
        return float(np.mean(self.final_progress))

    def figures(self) -> dict[str, float]:
        """The means, as a learning curve has them."""
        return {
            "success": self.success_rate,
            "final_progress": self.mean_final_progress,
            "return": float(np.mean(self.returns)),
        }

    def to_json(self) -> dict[str, Any]:
        """Every figure, and the episodes behind it."""
        return {
            "task": self.task,
            "episodes": self.episodes,
            "seed": self.seed,
            "success_rate": self.success_rate,
            "success_interval": list(self.success_interval),
            "mean_final_progress": self.mean_final_progress,
            "final_progress_interval": list(bootstrap_mean_interval(self.final_progress)),
            "mean_return": float(np.mean(self.returns)),
            "seconds": round(self.seconds, 3),
            "per_episode": {
                "success": list(self.successes),
                "final_progress": list(self.final_progress),
                "return": list(self.returns),
            },
        }


def act(policy: nn.Module, observation: np.ndarray) -> np.ndarray:
    """Actions (B, J) float32 for observations (B, D): the policy's mean, without chance."""
    with torch.no_grad():
        action: np.ndarray = policy(torch.from_numpy(np.ascontiguousarray(observation, dtype=np.float32))).numpy()
    return action


def evaluate(
    policy: nn.Module,
    task: str,
    episodes: int = 100,
    seed: int = 1000,
    robot: Any = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Run `episodes` episodes of `task`. The policy maps raw observations to actions in [-1, 1].

    `robot` is a profile or a name; the policy's own by default. Raises LearningError if the policy's observation is
    not the task's.
    """
    from sealegs_sim.tasks import get_task
    from sealegs_sim.vector import BatchEnv

    if episodes < 1:
        raise LearningError(f"an evaluation needs at least 1 episode, got {episodes}")
    described = get_task(task)
    profile = robot if robot is not None else getattr(policy, "robot", "so101")
    check_fits(policy, described, profile)
    started = time.perf_counter()
    env = BatchEnv(described.name, num_envs=episodes, robot=profile)
    try:
        observation, _ = env.reset(seed=[seed + i for i in range(episodes)])
        returns = np.zeros(episodes)
        for step in range(described.horizon_steps):
            observation, reward, _, _, info = env.step(act(policy, observation))
            returns += reward
            if progress is not None:
                progress(step + 1, described.horizon_steps)
        success, final = np.asarray(info["success"]), np.asarray(info["progress"])
    finally:
        env.close()
    return Evaluation(
        described.name,
        episodes,
        seed,
        tuple(bool(value) for value in success),
        tuple(float(value) for value in final),
        tuple(float(value) for value in returns),
        time.perf_counter() - started,
    )


def check_fits(policy: nn.Module, task: Any, profile: Any) -> None:
    """LearningError where the policy was trained on other observations or actions than the task gives."""
    from sealegs_contract.robot import load_robot

    robot = load_robot(profile) if isinstance(profile, (str, Path)) else profile
    wanted = task.observation_spec(robot)
    spec = getattr(policy, "observation_spec", None)
    if spec is not None and spec.fields != wanted.fields:
        raise LearningError(
            f"the policy observes {', '.join(f.name for f in spec.fields)}, but task {task.name!r} on {robot.name} "
            f"gives {', '.join(f.name for f in wanted.fields)} (or other scales): train it on data of this task"
        )
    action = getattr(policy, "action_spec", None)
    if action is not None and action != task.action_spec(robot):
        raise LearningError(
            f"the policy's actions ({action.kind}) are scaled otherwise than task {task.name!r} has them"
        )


def film(
    policy: nn.Module, task: str, seed: int, out: Path, robot: Any = None, camera: str = "front", every: int = 3
) -> bool:
    """Write one episode as an animated GIF, one frame per `every` control steps; whether it succeeded."""
    from PIL import Image

    from sealegs_learning.files import replaced_file
    from sealegs_sim.env import SealegsEnv

    profile = robot if robot is not None else getattr(policy, "robot", "so101")
    env = SealegsEnv(task, profile, render_mode="rgb_array", camera=camera)
    frames: list[Image.Image] = []
    try:
        observation, info = env.reset(seed=seed)
        truncated, step = False, 0
        while not truncated:
            if step % every == 0:
                frames.append(_still(env))
            observation, _, _, truncated, info = env.step(act(policy, observation[None])[0])
            step += 1
        frames.append(_still(env))
        milliseconds = round(1000 * every / env.robot.control_rate_hz)
    finally:
        env.close()
    with replaced_file(out) as temporary:
        frames[0].save(temporary, format="GIF", save_all=True, append_images=frames[1:], duration=milliseconds, loop=0)
    return bool(info["success"])


def _still(env: Any) -> Any:
    from PIL import Image

    return Image.fromarray(env.render())
