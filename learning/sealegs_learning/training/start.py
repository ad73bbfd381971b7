"""Where fine-tuning starts: the policy of a checkpoint, with its normaliser frozen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sealegs_contract.errors import LearningError
from sealegs_contract.temporal import TemporalSpec
from sealegs_learning.networks import GaussianActor, Policy
from sealegs_learning.policies.cloned import ClonedPolicy
from sealegs_learning.training.checkpoint import load_actor, load_checkpoint
from sealegs_learning.training.robots import check_same_robot


class Start(NamedTuple):
    """A policy that can be trained on, the checkpoint's tensors, and what to record of it."""

    policy: GaussianActor
    tensors: Mapping[str, Tensor]
    about: Mapping[str, Any]


def load_start(path: Path, hidden: tuple[int, ...] = (), log_std: float | None = None) -> Start:
    """The policy of the checkpoint at `path`; its actions' log deviation is `log_std`, or as it was trained.

    Raises LearningError where it has other `hidden` units than are asked for, and for a policy that no online learner
    can take a likelihood ratio of: one that sees images or the past, or that puts out chunks or bins.
    """
    policy = load_actor(path)
    if isinstance(policy, ClonedPolicy) or (isinstance(policy, Policy) and policy.temporal != TemporalSpec()):
        raise LearningError(
            f"{path} holds a policy with images, history, chunks or bins: fine-tuning needs a plain Gaussian one "
            "(learner iql, ppo, or bc with loss gaussian or mse)"
        )
    if hidden and hidden != policy.hidden:
        raise LearningError(
            f"{path} holds a policy with hidden units {_words(policy.hidden)}, but --hidden asks for {_words(hidden)}: "
            "leave out --hidden to go on with the policy's"
        )
    policy.train().requires_grad_(True)
    if log_std is not None:
        with torch.no_grad():
            policy.log_std.fill_(log_std)
    checkpoint = load_checkpoint(path)
    about = {
        "weights_sha256": checkpoint.description["weights_sha256"],
        "learner": checkpoint.description.get("config", {}).get("learner", ""),
        "update": checkpoint.update,
    }
    return Start(policy, checkpoint.tensors, about)


def _words(sizes: tuple[int, ...]) -> str:
    return " ".join(map(str, sizes))


def check_env(policy: GaussianActor, env: Any, task: str) -> None:
    """LearningError where `policy` is of another robot than the envs of `task`, or observes or acts otherwise."""
    if isinstance(policy, Policy):
        from sealegs_learning.evaluation.evaluate import check_fits
        from sealegs_sim.tasks import TASKS, get_task

        if task not in TASKS:
            raise LearningError(f"the checkpoint's policy is for robot {policy.robot.name}, not for {task}")
        check_same_robot("the checkpoint's policy", policy.robot, env.robot)
        check_fits(policy, get_task(task), env.robot)
    sizes = env.single_observation_space.shape[0], env.single_action_space.shape[0]
    if (policy.observations, policy.actions) != sizes:
        raise LearningError(
            f"the checkpoint's policy maps {policy.observations} observations to {policy.actions} actions, "
            f"but {task} has {sizes[0]} and {sizes[1]}"
        )
