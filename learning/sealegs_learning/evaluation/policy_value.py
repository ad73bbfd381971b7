"""What policies are worth, from logs alone: fitted Q evaluation with bootstrap intervals over the logged episodes.

    value = E over the episodes' first states of sum_t gamma^t r_t when the policy acts from there on, without end

All policies of one call share batches, resampled episodes and first networks, so their differences are paired. An
interval says what other logs of this size would have given; it knows nothing of actions that the logs hardly tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sealegs_contract.errors import LearningError
from sealegs_contract.temporal import TemporalSpec
from sealegs_learning.learners.fqe import FQE, value_bounds
from sealegs_learning.learners.settings import FQESettings, ModelSettings
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


@dataclass(frozen=True)
class Prepared:
    """Logged steps as FQE learns from them, shared by all evaluations on these logs."""

    now: Tensor
    """Normalised observations (M, D)."""
    next: Tensor
    start: Tensor
    """Normalised first observations (E, D)."""
    reward: Tensor
    """(r - shift) / scale, (M,)."""
    shift: float
    scale: float
    bounds: tuple[float, float]
    counts: Tensor
    """How often each member's resample holds each episode (K, E)."""
    normalizer: Normalizer

    @classmethod
    def of(cls, steps: LoggedSteps, settings: FQESettings, generator: torch.Generator) -> Prepared:
        """Normalisation, and the resamples, which `generator` draws."""
        normalizer = Normalizer.fit(torch.cat([steps.observation, steps.next_observation]))
        shift, scale = reward_units(steps)
        reward = (steps.reward - shift) / scale
        return cls(
            now=normalizer(steps.observation),
            next=normalizer(steps.next_observation),
            start=normalizer(steps.initial),
            reward=reward,
            shift=shift,
            scale=scale,
            bounds=value_bounds(reward, settings.gamma),
            counts=resampled_counts(settings.members, len(steps.initial), generator),
            normalizer=normalizer,
        )


Actions = tuple[Tensor, Tensor]
"""What a policy does at all next states (M, J) and at all first states (E, J): it never changes, so it is kept."""


class PolicyEvaluator:
    """FQE of P policies on logged steps: `run` trains, `values` reads."""

    def __init__(
        self, steps: LoggedSteps, policies: Sequence[nn.Module | None], settings: FQESettings, seed: int = 0
    ) -> None:
        """A policy maps raw observations to actions in [-1, 1]; None stands for the logs' own behaviour."""
        check_settings(settings)
        generator = torch.Generator().manual_seed(seed)
        prepared = Prepared.of(steps, settings, generator)
        self._set(steps, prepared, [actions_in(steps, policy) for policy in policies], settings, generator)

    def _set(
        self,
        steps: LoggedSteps,
        prepared: Prepared,
        actions: Sequence[Actions],
        settings: FQESettings,
        generator: torch.Generator,
    ) -> None:
        self.steps, self.prepared, self.settings, self.generator = steps, prepared, settings, generator
        self.next_action = torch.stack([following for following, _ in actions])
        self.start_action = torch.stack([first for _, first in actions])
        self.fqe = FQE(prepared.now.shape[1], steps.action.shape[1], len(actions), settings, generator)

    def run(self, progress: Progress | None = None) -> PolicyEvaluator:
        """All updates. Raises LearningError when a loss is not finite."""
        c, steps, prepared = self.settings, self.steps, self.prepared
        loss = torch.zeros(())
        while self.fqe.done < c.updates:
            rows = torch.randint(len(steps.reward), (c.batch_size,), generator=self.generator)
            loss = self.fqe.update(
                prepared.now[rows],
                steps.action[rows],
                prepared.reward[rows],
                steps.terminal[rows],
                prepared.next[rows],
                self.next_action[:, rows],
                prepared.counts[:, steps.episode[rows]],
                prepared.bounds,
            )
            if progress is not None and self.fqe.done % 100 == 0:
                progress(self.fqe.done, c.updates)
        if not math.isfinite(float(loss)):
            raise LearningError(f"FQE diverged: its loss is {float(loss)}; lower the learning rate")
        return self

    def values(self) -> list[PolicyValue]:
        """The value of each policy, in the reward's own unit."""
        p = self.prepared
        return self.summary(self.fqe.value(p.start, self.start_action), torch.arange(len(p.start)))

    def summary(self, value: Tensor, starts: Tensor) -> list[PolicyValue]:
        """From values (P, K, S), in deviations of the reward, at the first states of the episodes `starts` (S,)."""
        p, weight = self.prepared, self.prepared.counts[:, starts].double()
        mean = (value.double() * weight).sum(-1) / weight.sum(-1)
        return [_policy_value(row) for row in (mean * p.scale + p.shift / (1.0 - self.settings.gamma)).numpy()]

    def q_of(self, observation: Tensor, action: Tensor) -> Tensor:
        """Q of the first policy (K, M, G), in deviations of the reward: G actions (M, G, J) at raw states (M, D)."""
        states = self.prepared.normalizer(observation).repeat_interleave(action.shape[1], 0)
        first = action.flatten(0, 1).expand(self.fqe.policies, -1, -1)
        return self.fqe.value(states, first)[0].view(-1, *action.shape[:2])

    def successor(self, actions: Sequence[Actions], settings: FQESettings, seed: int) -> PolicyEvaluator:
        """An evaluator of other policies on the same resamples, each starting from the first policy's networks."""
        other = object.__new__(PolicyEvaluator)
        other._set(self.steps, self.prepared, actions, settings, torch.Generator().manual_seed(seed))
        other.fqe.start_from(self.fqe, [0] * len(actions))
        return other

    def only(self, index: int) -> PolicyEvaluator:
        """The evaluator of one of the policies, as far as it has come."""
        actions = (self.next_action[index], self.start_action[index])
        other = self.successor([actions], self.settings, 0)
        other.fqe.start_from(self.fqe, [index])
        other.fqe.done = self.fqe.done
        return other

    def tensors(self) -> dict[str, Tensor]:
        """The networks' weights by name."""
        weights = {f"{k}.{n}": t for k, net in self._networks().items() for n, t in net.state_dict().items()}
        return {name: tensor.clone() for name, tensor in weights.items()}

    def load_tensors(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `tensors`."""
        for kind, network in self._networks().items():
            start = f"{kind}."
            network.load_state_dict({k.removeprefix(start): v for k, v in state.items() if k.startswith(start)})

    def _networks(self) -> dict[str, nn.Module]:
        return {"q": self.fqe.q, "target": self.fqe.target}


def difference(a: PolicyValue, b: PolicyValue) -> PolicyValue:
    """value(a) - value(b), paired by resample; both from one call."""
    return _policy_value(np.array(a.members) - np.array(b.members))


def reward_units(steps: LoggedSteps) -> tuple[float, float]:
    """(shift, scale) that standardise the rewards. With terminals a shift would change values unevenly: it is 0."""
    wide = steps.reward.double()
    scale = float(wide.std(unbiased=False))
    shift = 0.0 if bool(steps.terminal.any()) else float(wide.mean())
    return shift, scale if scale > 1e-9 * max(1.0, abs(shift)) else 1.0


def actions_in(steps: LoggedSteps, policy: nn.Module | None) -> Actions:
    """What a policy, or the logs (None), do at the next and at the first states."""
    if policy is None:
        return steps.next_action, steps.initial_action
    return actions_of(policy, steps.next_observation), actions_of(policy, steps.initial)


def actions_of(policy: nn.Module, observation: Tensor) -> Tensor:
    """Actions (N, J) of a policy at raw observations (N, D), its mean, clipped to [-1, 1] as the robot does it."""
    with torch.no_grad():
        return torch.cat([policy(rows) for rows in torch.split(observation, CHUNK)]).clamp(-1.0, 1.0)


def check_settings(settings: FQESettings | ModelSettings, group: str = "fqe") -> None:
    """LearningError on a setting outside its range."""
    for name, holds, expected in settings.rules():
        if not holds:
            raise LearningError(f"{group}.{name} must be {expected}, got {getattr(settings, name)}")


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
