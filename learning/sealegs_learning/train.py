"""Training a policy: what `sealegs train`, the sweep and the demo's arms do."""

from __future__ import annotations

import torch

from sealegs_learning.config import TrainConfig, check_config
from sealegs_learning.offline import TrainingData, offline_session
from sealegs_learning.online import online_session
from sealegs_learning.run import Progress, Run, Session, TrainReport


def train(config: TrainConfig, progress: Progress | None = None, dataset: TrainingData | None = None) -> TrainReport:
    """Train to the end or the early stop and write the checkpoint. `dataset` is read from disk if not given.

    Callable from a subprocess; sets torch to one thread. Raises LearningError on unusable data or settings, and when
    the training diverges.
    """
    check_config(config)
    torch.set_num_threads(1)
    session: Session = online_session(config) if config.learner == "ppo" else offline_session(config, dataset)
    return Run(config, session, progress).go()
