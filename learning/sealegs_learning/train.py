"""Training a policy: what `sealegs train`, the sweep and the demo's arms do."""

from __future__ import annotations

import torch

from sealegs_contract.robot import load_robot
from sealegs_learning.sessions.finetune import finetune_session
from sealegs_learning.sessions.offline import TrainingData, offline_session, open_dataset
from sealegs_learning.sessions.online import online_session
from sealegs_learning.sessions.unio4 import unio4_session
from sealegs_learning.training.config import TrainConfig, check_config, is_online
from sealegs_learning.training.origin import origin_of
from sealegs_learning.training.robots import check_same_robot
from sealegs_learning.training.run import Progress, Run, Session, TrainReport


def train(config: TrainConfig, progress: Progress | None = None, dataset: TrainingData | None = None) -> TrainReport:
    """Train to the end or the early stop and write the checkpoint. `dataset` is read from disk if not given.

    Callable from a subprocess; sets torch to one thread. Raises LearningError on unusable data or settings, and when
    the training diverges.
    """
    check_config(config)
    torch.set_num_threads(1)
    data = data_of(config, dataset)
    return Run(config, make_session(config, data), progress, origin_of(config, data)).go()


def data_of(config: TrainConfig, dataset: TrainingData | None = None) -> TrainingData | None:
    """What the run learns from: `dataset`, or that of `config`; None where it needs none.

    LearningError where --robot names another robot than the data's.
    """
    if config.learner == "ppo":
        return None
    data: TrainingData = open_dataset(config) if dataset is None else dataset
    if config.robot:
        check_same_robot(f"dataset {data.path}", data.robot, load_robot(config.robot))
    return data


def make_session(config: TrainConfig, dataset: TrainingData | None = None) -> Session:
    """What learns, by learner: from logs, in simulation, or from logs and then in simulation."""
    if config.learner == "ppo":
        return online_session(config)
    if config.learner == "unio4":
        return unio4_session(config, dataset)
    return finetune_session(config, dataset) if is_online(config) else offline_session(config, dataset)
