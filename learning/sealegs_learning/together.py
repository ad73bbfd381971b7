"""Several IQL runs, over seeds or settings, trained as one batched model; each then has its folder as if by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sealegs_contract.errors import LearningError
from sealegs_learning.learners.graphed import GraphedUpdates
from sealegs_learning.learners.iql import IQL
from sealegs_learning.learners.iql_many import ManyIQL
from sealegs_learning.networks import GaussianActor
from sealegs_learning.sessions.offline import OfflineSession, TrainingData, offline_session
from sealegs_learning.train import data_of
from sealegs_learning.training.config import TrainConfig, check_config, is_online
from sealegs_learning.training.origin import origin_of
from sealegs_learning.training.run import Progress, Run, TrainReport
from sealegs_learning.transitions import Transitions


def train_together(
    configs: Sequence[TrainConfig], progress: Progress | None = None, dataset: TrainingData | None = None
) -> list[TrainReport]:
    """Train `configs`, which may differ in seed, `out` and IQL's gamma, tau, beta and cap. A report for each.

    Checkpoints are written at the end, with the policy alone: these runs can be used, but not resumed. Raises
    LearningError where the runs do not fit into one model.
    """
    torch.set_num_threads(1)
    for config in configs:
        _check(config, configs[0])
    data = data_of(configs[0], dataset)
    origin = origin_of(configs[0], data)
    sessions = [offline_session(config, data) for config in configs]
    batched = _Batched(sessions, configs[0].batch_size)
    reports = []
    for k, config in enumerate(configs):
        member = _Member(batched, k, sessions[k].about)
        run = Run(replace(config, checkpoint_every=config.updates), member, progress if k == 0 else None, origin)
        reports.append(run.go())
    return reports


class _Batched:
    """The model of all, and what was measured of it at every stop."""

    def __init__(self, sessions: Sequence[OfflineSession], batch_size: int) -> None:
        learners = [session.learner for session in sessions if isinstance(session.learner, IQL)]
        transitions = sessions[0].transitions
        if len(learners) < len(sessions) or not isinstance(transitions, Transitions):
            raise LearningError("only IQL on observation vectors trains as one batched model")
        self.many, self.transitions, self.batch_size = ManyIQL(learners), transitions, batch_size
        self.generators = [session.batches for session in sessions]
        self.stops: dict[int, dict[str, list[float]]] = {}
        on_gpu = transitions.packed.is_cuda
        self._graphed = GraphedUpdates(self.many, transitions, batch_size, len(learners)) if on_gpu else None

    def advance(self, until: int) -> None:
        """Update all members until `until` updates are done."""
        metrics: dict[str, Tensor] = {}
        if self._graphed:
            metrics = self._graphed.advance(self.generators, until - self.many.done)
        while self.many.done < until:
            index = torch.cat([self.transitions.draw(generator, self.batch_size) for generator in self.generators])
            metrics = self.many.update(self.transitions.rows(index))
        self.stops[until] = {name: value.tolist() for name, value in metrics.items()}


class _Member:
    """One run's view of the batched model. The first run to go advances all; the others read what it left."""

    unit = "update"

    def __init__(self, batched: _Batched, k: int, about: Mapping[str, Any]) -> None:
        self.batched, self.k, self.about = batched, k, about
        self.total, self.done = batched.many.updates, 0

    @property
    def policy(self) -> GaussianActor:
        """As it is at the end."""
        return self.batched.many.settle()[self.k].cpu()

    def advance(self, until: int) -> dict[str, float]:
        """Metrics at `until`."""
        if until not in self.batched.stops:
            self.batched.advance(until)
        self.done = until
        return {name: values[self.k] for name, values in self.batched.stops[until].items()}

    def tensors(self) -> dict[str, Tensor]:
        """The policy's."""
        return {f"networks.policy.{name}": tensor for name, tensor in self.policy.state_dict().items()}

    def load_tensors(self, state: Mapping[str, Tensor], done: int) -> None:
        """There is nothing to go on from."""
        raise LearningError("runs that train together cannot be resumed: train them again with --overwrite")


def _check(config: TrainConfig, first: TrainConfig) -> None:
    check_config(config)
    if config.learner != "iql" or is_online(config):
        raise LearningError(f"only IQL from data alone trains as one batched model, got learner {config.learner}")
    if config.evaluate_every or config.resume:
        raise LearningError("runs that train together are neither evaluated on the way nor resumed")
    if replace(config, seed=first.seed, out=first.out, iql=first.iql) != first:
        raise LearningError("runs that train together may differ in seed, out and IQL's own settings only")
