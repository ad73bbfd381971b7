"""Several IQL runs, over seeds or settings, trained as one batched model; each has its folder as if by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property

import torch
from torch import Tensor

from sealegs_contract.errors import LearningError
from sealegs_learning.learners.graphed import GraphedUpdates
from sealegs_learning.learners.iql import IQL
from sealegs_learning.learners.iql_many import ManyIQL
from sealegs_learning.networks import GaussianActor
from sealegs_learning.sessions.offline import OfflineSession, TrainingData, offline_sessions
from sealegs_learning.train import data_of
from sealegs_learning.training.config import TrainConfig, check_config, is_online
from sealegs_learning.training.origin import origin_of
from sealegs_learning.training.run import Progress, Run, TrainReport, differing
from sealegs_learning.transitions import Transitions

VARIED = ("learning_rate", "iql.gamma", "iql.tau", "iql.beta", "iql.advantage_cap", "iql.polyak")
"""What may differ between runs of one batched model, beside the seed and `out`."""


def train_together(
    configs: Sequence[TrainConfig], progress: Progress | None = None, dataset: TrainingData | None = None
) -> list[TrainReport | LearningError]:
    """Train `configs`; of each its report, or why it failed, which stops no other. `progress` is the first one's.

    Runs that resume from different updates, as a kill between two checkpoints leaves them, are as many models.
    Raises LearningError where the runs do not fit into one model.
    """
    check_together(configs)
    for config in configs:
        check_config(config)
    torch.set_num_threads(1)
    data = data_of(configs[0], dataset)
    sessions, origin = offline_sessions(configs, data), origin_of(configs[0], data)
    members = [_Member(session) for session in sessions]
    runs = [_MemberRun(config, one, origin=origin) for config, one in zip(configs, members, strict=True)]
    outcomes: list[TrainReport | LearningError | None] = [None] * len(runs)
    going = {k: run.steps() for k, run in enumerate(runs)}
    _go_on(going, outcomes)
    for done in sorted({members[k].done for k in going}):
        group = {k: going[k] for k in going if members[k].done == done}
        batched = _Batched([sessions[k] for k in group])
        for row, k in enumerate(group):
            members[k].batched, members[k].row = batched, row
        runs[min(group)].progress = progress
        while group:
            _go_on(group, outcomes)
    return [run.report() if found is None else found for run, found in zip(runs, outcomes, strict=True)]


def check_together(configs: Sequence[TrainConfig]) -> None:
    """LearningError where these runs cannot be one batched model, with what stands against it."""
    first = asdict(configs[0])
    for config in configs:
        if config.learner != "iql" or is_online(config):
            raise LearningError(f"only IQL from data alone trains as one batched model, got learner {config.learner}")
    found = {name for config in configs for name in differing(first, asdict(config))} - {*VARIED, "seed", "out"}
    if found:
        raise LearningError(
            f"runs of one batched model share their {', '.join(sorted(found))}; what may differ is the seed and "
            f"{', '.join(VARIED)}"
        )


def _go_on(going: dict[int, Iterator[None]], outcomes: list[TrainReport | LearningError | None]) -> None:
    """One step of every run; those that end or fail leave `going`."""
    for k, steps in list(going.items()):
        try:
            next(steps)
        except StopIteration:
            del going[k]
        except LearningError as error:
            outcomes[k] = error
            del going[k]


class _Batched:
    """The model of all, which is made once the runs have resumed."""

    def __init__(self, sessions: Sequence[OfflineSession]) -> None:
        self.sessions = sessions
        self.metrics: dict[str, list[float]] = {}
        self._ahead = False
        self.share_s = 0.0
        """A member's share of the time that the last `advance` took."""

    @cached_property
    def many(self) -> ManyIQL:
        """What learns."""
        return ManyIQL([session.learner for session in self.sessions if isinstance(session.learner, IQL)])

    @cached_property
    def transitions(self) -> Transitions:
        """What all learn from."""
        found = self.sessions[0].transitions
        if not isinstance(found, Transitions):
            raise LearningError("only IQL on observation vectors trains as one batched model")
        return found

    @cached_property
    def _graphed(self) -> GraphedUpdates | None:
        if not self.transitions.packed.is_cuda:
            return None
        return GraphedUpdates(self.many, self.transitions, self.sessions[0].batch_size, len(self.sessions))

    def advance(self, until: int) -> None:
        """Update all members until `until` updates are done."""
        started, metrics = time.perf_counter(), dict[str, Tensor]()
        self._ahead = True
        generators, size = [session.batches for session in self.sessions], self.sessions[0].batch_size
        if self._graphed:
            metrics = self._graphed.advance(generators, until - self.many.done)
        while self.many.done < until:
            index = torch.cat([self.transitions.draw(generator, size) for generator in generators])
            metrics = self.many.update(self.transitions.rows(index), measured=self.many.done + 1 >= until)
        self.metrics = {name: value.tolist() for name, value in metrics.items()}
        self.share_s = (time.perf_counter() - started) / len(self.sessions)

    def settle(self) -> None:
        """Bring the members' learners to where the model is."""
        if self._ahead:
            self.many.settle()
        self._ahead = False


class _Member:
    """One run's view of the batched model. The first run to go on takes all along; the others read what came of it."""

    unit = "update"

    def __init__(self, session: OfflineSession) -> None:
        self._own, self.about = session, session.about
        self.total, self.done = session.total, session.done
        self.batched, self.row = _Batched([session]), 0  # until it is known which others are as far

    @property
    def policy(self) -> GaussianActor:
        """As it is now."""
        if hasattr(self, "batched"):  # before, nothing has been learned
            self.batched.settle()
        return self._own.policy

    def advance(self, until: int) -> dict[str, float]:
        """Metrics at `until`."""
        if self.batched.many.done < until:
            self.batched.advance(until)
        self.done = until
        return {name: values[self.row] for name, values in self.batched.metrics.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Those of the run by itself, which can go on from them alone as well."""
        self.batched.settle()
        return self._own.tensors()

    def load_tensors(self, state: Mapping[str, Tensor], done: int) -> None:
        """Inverse of `tensors`."""
        self._own.load_tensors(state, done)
        self.done = done


class _MemberRun(Run):
    """A run whose seconds are its share of the model's."""

    session: _Member

    def _learn(self, until: int) -> dict[str, float]:
        figures = self.session.advance(until)
        self.seconds += self.session.batched.share_s
        return figures
