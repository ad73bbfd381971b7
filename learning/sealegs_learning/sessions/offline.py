"""Learning from a dataset: gradient updates on seeded batches of its transitions."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sealegs_contract.errors import LearningError
from sealegs_learning.learners.base import Learner
from sealegs_learning.learners.bc import BC
from sealegs_learning.learners.graphed import GraphedUpdates, check_device
from sealegs_learning.learners.iql import IQL
from sealegs_learning.networks import GaussianActor, Policy
from sealegs_learning.policies.augmentation import Augmentation
from sealegs_learning.policies.cloned import ClonedPolicy
from sealegs_learning.policies.frames import HasImages, SeeingTransitions, with_images
from sealegs_learning.policies.view import View
from sealegs_learning.reward.sidecar import Reward, RewardDataset, describe_reward, read_reward
from sealegs_learning.training.config import TrainConfig
from sealegs_learning.transitions import (
    LoggedData,
    Transitions,
    build_transitions,
    learnable_episodes,
    return_range_scaled,
    standardised,
)


class TrainingData(LoggedData, RewardDataset, HasImages, Protocol):
    """A dataset with rows, episodes and reward sidecars."""


class OfflineSession:
    """A learner and its transitions; counts gradient updates."""

    unit = "update"

    def __init__(
        self,
        learner: Learner,
        transitions: Transitions | SeeingTransitions,
        config: TrainConfig,
        about: Mapping[str, Any],
    ) -> None:
        self.learner, self.transitions, self.about = learner, transitions, about
        self.batch_size, self.total = config.batch_size, config.updates
        self.batches = torch.Generator().manual_seed(config.seed + 1)
        self._graphed: GraphedUpdates | None = None
        if isinstance(self.transitions, Transitions) and self.transitions.packed.is_cuda:
            self._graphed = GraphedUpdates(learner, self.transitions, config.batch_size)

    @property
    def done(self) -> int:
        """Gradient updates done."""
        return self.learner.done

    @property
    def policy(self) -> GaussianActor:
        """What is learned, on the CPU."""
        return copy.deepcopy(self.learner.policy).cpu() if self._graphed else self.learner.policy

    def advance(self, until: int) -> dict[str, float]:
        """Update until `until` updates are done; the metrics of the last one."""
        if self._graphed:
            metrics = self._graphed.advance([self.batches], until - self.done)
            return {name: float(value) for name, value in metrics.items()}
        metrics, source = {}, self.transitions
        while self.learner.done < until:
            batch: Any = source.sample(self.batches, self.batch_size)  # of images too, where the policy sees them
            metrics = self.learner.update(batch, measured=self.done + 1 >= until)
        return {name: float(value) for name, value in metrics.items()}

    def tensors(self) -> dict[str, Tensor]:
        """The learner's state and the generator of the batches."""
        return self.learner.tensors() | {"batches.generator": self.batches.get_state()}

    def load_tensors(self, state: Mapping[str, Tensor], done: int) -> None:
        """Inverse of `tensors`."""
        self.learner.load_tensors(state, done)
        self.batches.set_state(state["batches.generator"])


def offline_session(config: TrainConfig, dataset: TrainingData | None = None) -> OfflineSession:
    """The learner of `config` on `dataset`, which is read from `config.dataset` if not given.

    Raises LearningError on unusable data or an unknown reward.
    """
    return offline_sessions([config], dataset)[0]


def offline_sessions(configs: Sequence[TrainConfig], dataset: TrainingData | None = None) -> list[OfflineSession]:
    """As `offline_session`, of several whose data are the same: they share them."""
    config = configs[0]
    data: Any = dataset if dataset is not None else open_dataset(config)
    reward_name = "constant" if config.learner == "bc" else config.reward
    view = view_of(config, data)
    transitions = build_transitions(data, scaled_reward(config, read_reward(data, reward_name), data), view)
    tasks = sorted({episode.task for episode in data.episodes})
    task = tasks[0] if len(tasks) == 1 else ""
    reward = describe_reward(data, reward_name) if config.learner != "bc" else {"name": "none"}
    about = {
        "dataset_fingerprint": data.fingerprint,
        "reward": {k: reward[k] for k in ("name", "parquet_sha256", "labels", "held_out_accuracy") if k in reward},
        "transitions": len(transitions),
    }
    source: Transitions | SeeingTransitions = transitions
    if images := view.observation_spec.images:
        delay = view.temporal.image_delay
        source = with_images(transitions, data, learnable_episodes(data), images, delay, Augmentation.of(config.inputs))
    learners = [make_learner(one, data, transitions, task) for one in configs]
    source = source.to(config.device)
    return [OfflineSession(learner, source, one, about) for learner, one in zip(learners, configs, strict=True)]


def view_of(config: TrainConfig, data: LoggedData) -> View:
    """What the policy sees of `data` and puts out."""
    extent = (config.bc.chunk, config.bc.execute) if config.learner == "bc" else (1, 1)
    return View.make(data, config.inputs, *extent)


def scaled_reward(config: TrainConfig, reward: Reward, data: LoggedData) -> np.ndarray:
    """The row rewards (N,) that the learner sees: pessimistic by the spread if asked, then normalised."""
    pessimistic = reward.mean - config.spread_penalty * reward.spread
    match config.reward_normalisation:
        case "standardise":
            return standardised(pessimistic, config.reward_scale)
        case "return-range":
            return return_range_scaled(pessimistic, data.episode_index, 1000.0 * config.reward_scale)
        case _:
            return (pessimistic * config.reward_scale).astype(np.float32)


def make_learner(config: TrainConfig, data: LoggedData, transitions: Transitions, task: str) -> Learner:
    """The learner of a robot's policy with its first weights, which `config.seed` decides."""
    generator = torch.Generator().manual_seed(config.seed)
    view = view_of(config, data)
    parts = (data.robot, view.observation_spec, data.action_spec, transitions.normalizer, config.layers, generator)
    bins = config.bc.bins if config.learner == "bc" and config.bc.loss == "bins" else 0
    if bins or view.observation_spec.images:
        policy: Policy = ClonedPolicy(*parts, task, view.temporal, bins, config.bc.sharpness)
    else:
        policy = Policy(*parts, task, temporal=view.temporal)
    return learner_of(policy, config, generator)


def learner_of(policy: GaussianActor, config: TrainConfig, generator: torch.Generator) -> Learner:
    """The learner that `config` names, around `policy`; `generator` draws the first weights of its other networks.

    MachineError where `config.device` is not there.
    """
    policy.to(check_device(config.device))
    if config.learner == "bc":
        return BC(policy, config.bc, config.learning_rate, config.updates)
    return IQL(policy, config.iql, config.learning_rate, config.updates, generator)


def open_dataset(config: TrainConfig) -> Any:
    """The dataset of `config`, from disk; LearningError where none is named."""
    from sealegs_learning.data.dataset import Dataset

    if config.dataset is None:
        raise LearningError(f"learner {config.learner} learns from data: give --dataset")
    return Dataset.open(config.dataset)
