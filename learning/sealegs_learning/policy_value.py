"""What policies are worth, from logs alone: fitted Q evaluation with bootstrap intervals over the logged episodes.

    value = E over the episodes' first states of sum_t gamma^t r_t when the policy acts from there on, without end

All policies of one call share batches, resampled episodes and first networks, so their differences are paired. An
interval says what other logs of this size would have given; it knows nothing of actions that the logs hardly tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sealegs_contract.errors import LearningError
from sealegs_contract.temporal import TemporalSpec
from sealegs_learning.learners.fqe import FQE, value_bounds
from sealegs_learning.learners.settings import FQESettings
from sealegs_learning.networks import Normalizer
from sealegs_learning.statistics import Interval
from sealegs_learning.transitions import LoggedData, episode_slices, normalised_actions

Progress = Callable[[int, int], None]
"""Called as progress(update, updates)."""
CHUNK = 16_384


@dataclass(frozen=True)
class LoggedSteps:
    """M transitions of E episodes: observations (M, D) raw, actions (M, J) in [-1, 1], rewards and terminals (M,)."""

    observation: Tensor
    action: Tensor
    reward: Tensor
    terminal: Tensor
    """1 where the episode ended for good; 0 at a time limit."""
    next_observation: Tensor
    next_action: Tensor
    """What the logs did next (M, J)."""
    episode: Tensor
    """Episode of each transition (M,), from 0 to E - 1."""
    initial: Tensor
    """First observation of each episode (E, D)."""
    initial_action: Tensor
    """What the logs did there (E, J)."""


@dataclass(frozen=True)
class PolicyValue:
    """A discounted value and what the resampled logs said: `members` (K,), the same resamples for every policy."""

    value: float
    interval: Interval
    members: tuple[float, ...]


def logged_steps(
    data: LoggedData, reward: NDArray[np.float32], terminal: NDArray[np.bool_] | None = None
) -> LoggedSteps:
    """The transitions of `data` under row rewards (N,); row t is followed by row t + 1, with reward[t + 1].

    `terminal` (N,) marks rows in which an episode ended for good. Raises LearningError where shapes do not fit or no
    episode has two rows.
    """
    rows = len(data.state)
    ends = np.zeros(rows, dtype=bool) if terminal is None else np.asarray(terminal, dtype=bool)
    if reward.shape != (rows,) or ends.shape != (rows,):
        raise LearningError(f"{rows} rows, but rewards of shape {reward.shape} and terminals of shape {ends.shape}")
    episodes = [e for e in episode_slices(data.episode_index) if e.stop - e.start >= 2]
    if not episodes:
        raise LearningError(f"no episode has two rows or more, so there is no transition ({rows} rows in all)")
    now = np.concatenate([np.arange(e.start, e.stop - 1) for e in episodes])
    state = torch.from_numpy(np.array(data.state, dtype=np.float32))
    actions = [normalised_actions(data, e) for e in episodes]
    lengths = [e.stop - e.start - 1 for e in episodes]
    return LoggedSteps(
        observation=state[now],
        action=torch.from_numpy(np.concatenate([a[:-1] for a in actions])),
        reward=torch.from_numpy(np.asarray(reward, dtype=np.float32)[now + 1]),
        terminal=torch.from_numpy(ends[now + 1].astype(np.float32)),
        next_observation=state[now + 1],
        next_action=torch.from_numpy(np.concatenate([a[1:] for a in actions])),
        episode=torch.from_numpy(np.repeat(np.arange(len(episodes)), lengths)),
        initial=state[[e.start for e in episodes]],
        initial_action=torch.from_numpy(np.stack([a[0] for a in actions])),
    )


def resampled_counts(members: int, episodes: int, generator: torch.Generator) -> Tensor:
    """How often each of K bootstrap resamples holds each episode, (K, E); a row sums to E."""
    drawn = torch.randint(episodes, (members, episodes), generator=generator)
    return torch.zeros(members, episodes).scatter_add_(1, drawn, torch.ones(members, episodes))


def member_interval(members: Sequence[float] | NDArray, confidence: float = 0.95) -> Interval:
    """mean +- t sd over the values of K resamples: their deviation is the standard error; t has K - 1 degrees."""
    from scipy.special import stdtrit

    values = np.asarray(members, dtype=np.float64)
    half = float(stdtrit(len(values) - 1, 0.5 + confidence / 2.0)) * float(values.std(ddof=1))
    return Interval(float(values.mean()) - half, float(values.mean()) + half)


class PolicyEvaluator:
    """FQE of P policies on logged steps. `run` trains, `values` reads; more policies or actions need a new one."""

    def __init__(
        self, steps: LoggedSteps, policies: Sequence[nn.Module | None], settings: FQESettings, seed: int = 0
    ) -> None:
        """A policy maps raw observations to actions in [-1, 1]; None stands for the logs' own behaviour."""
        check_settings(settings)
        self.steps, self.settings = steps, settings
        self.generator = torch.Generator().manual_seed(seed)
        self.normalizer = Normalizer.fit(torch.cat([steps.observation, steps.next_observation]))
        self.now, self.next = self.normalizer(steps.observation), self.normalizer(steps.next_observation)
        self.start = self.normalizer(steps.initial)
        self.shift, self.scale = reward_units(steps)
        self.reward = (steps.reward - self.shift) / self.scale
        self.bounds = value_bounds(self.reward, settings.gamma)
        self.counts = resampled_counts(settings.members, len(steps.initial), self.generator)
        self.next_action, self.start_action = self._actions(policies)
        sizes = self.now.shape[1], steps.action.shape[1]
        self.fqe = FQE(*sizes, len(policies), settings, self.generator)

    def run(self, progress: Progress | None = None) -> PolicyEvaluator:
        """All updates. Raises LearningError when a loss is not finite."""
        c, steps = self.settings, self.steps
        loss = torch.zeros(())
        while self.fqe.done < c.updates:
            rows = torch.randint(len(self.reward), (c.batch_size,), generator=self.generator)
            loss = self.fqe.update(
                self.now[rows],
                steps.action[rows],
                self.reward[rows],
                steps.terminal[rows],
                self.next[rows],
                self.next_action[:, rows],
                self.counts[:, steps.episode[rows]],
                self.bounds,
            )
            if progress is not None and self.fqe.done % 100 == 0:
                progress(self.fqe.done, c.updates)
        if not math.isfinite(float(loss)):
            raise LearningError(f"FQE diverged: its loss is {float(loss)}; lower the learning rate")
        return self

    def values(self) -> list[PolicyValue]:
        """The value of each policy, in the reward's own unit."""
        q = self.fqe.value(self.start, self.start_action).double()  # (P, K, E)
        scaled = (q * self.counts).mean(-1) * self.scale + self.shift / (1.0 - self.settings.gamma)
        return [_policy_value(row) for row in scaled.numpy()]

    def _actions(self, policies: Sequence[nn.Module | None]) -> tuple[Tensor, Tensor]:
        """Each policy's actions at all next states (P, M, J) and first states (P, E, J): they never change."""
        steps = self.steps
        following = [steps.next_action if p is None else actions_of(p, steps.next_observation) for p in policies]
        first = [steps.initial_action if p is None else actions_of(p, steps.initial) for p in policies]
        return torch.stack(following), torch.stack(first)


def evaluate_offline(
    steps: LoggedSteps,
    policies: Sequence[nn.Module | None],
    settings: FQESettings,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[PolicyValue]:
    """Value of each policy with its bootstrap interval; see `PolicyEvaluator`."""
    return PolicyEvaluator(steps, policies, settings, seed).run(progress).values()


def difference(a: PolicyValue, b: PolicyValue) -> PolicyValue:
    """value(a) - value(b), paired by resample; both from one call."""
    return _policy_value(np.array(a.members) - np.array(b.members))


def reward_units(steps: LoggedSteps) -> tuple[float, float]:
    """(shift, scale) that standardise the rewards. With terminals a shift would change values unevenly: it is 0."""
    wide = steps.reward.double()
    scale = float(wide.std(unbiased=False))
    shift = 0.0 if bool(steps.terminal.any()) else float(wide.mean())
    return shift, scale if scale > 1e-9 * max(1.0, abs(shift)) else 1.0


def actions_of(policy: nn.Module, observation: Tensor) -> Tensor:
    """Actions (N, J) of a policy at raw observations (N, D), its mean, clipped to [-1, 1] as the robot does it."""
    with torch.no_grad():
        return torch.cat([policy(rows) for rows in torch.split(observation, CHUNK)]).clamp(-1.0, 1.0)


def check_settings(settings: FQESettings) -> None:
    """LearningError on a setting outside its range."""
    for name, holds, expected in settings.rules():
        if not holds:
            raise LearningError(f"fqe.{name} must be {expected}, got {getattr(settings, name)}")


def check_policy(policy: Any, data: LoggedData, name: str) -> None:
    """LearningError where the policy observes or acts otherwise than the dataset has it."""
    if policy.observation_spec.fields != data.observation_spec.fields:
        raise LearningError(
            f"{name} observes {', '.join(f.name for f in policy.observation_spec.fields)}, but the dataset has "
            f"{', '.join(f.name for f in data.observation_spec.fields)}: FQE needs a policy of this dataset's kind"
        )
    if policy.temporal != TemporalSpec() or policy.observation_spec.images:
        raise LearningError(f"{name} sees frames of the past or images, or puts out chunks: FQE has no such states")
    if policy.action_spec != data.action_spec:
        raise LearningError(f"{name}'s actions are scaled otherwise than the dataset's: FQE cannot compare them")


def _policy_value(members: NDArray[np.float64]) -> PolicyValue:
    values = tuple(float(value) for value in members)
    return PolicyValue(float(np.mean(values)), member_interval(values), values)
