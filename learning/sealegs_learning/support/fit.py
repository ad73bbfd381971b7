"""Fitting the support of a policy's training data: episodes are split in three, by chance.

    fit: the scores' parameters      tune: the scales that make several scores comparable      calibrate: the thresholds

The thresholds' bound (`conformal`) is for episodes exchangeable with the calibration ones. Held-out episodes of the
logs are the LOGGED behaviour; the policy's own episodes are as likely to alarm only where it behaves as the logs do.
With episodes of the policy itself there are thresholds from either, and the higher ones keep both bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sealegs_contract.errors import LearningError
from sealegs_contract.support import WINDOW, filtered
from sealegs_learning.networks import Policy
from sealegs_learning.policies.view import View
from sealegs_learning.support.conformal import Threshold, conformal_threshold
from sealegs_learning.support.prediction import fit_prediction
from sealegs_learning.support.scores import (
    Linear,
    Mahalanobis,
    Neighbours,
    Newest,
    Pair,
    PolicyFeatures,
    Range,
    SupportModel,
    Worst,
    run,
)
from sealegs_learning.transitions import LoggedData, learnable_episodes

Episodes = Sequence[NDArray[np.float32]]
"""Observations of each, (T, history * D)."""
MINIMUM_EPISODES = 20
SHARES = (0.4, 0.2)
"""Of the episodes for fit and tune; the rest calibrates."""
MAXIMUM_FIT_ROWS = 60_000
SMALLEST_SCALE = 0.05
"""Of a range's excess: as much of the range itself may be missing from few episodes."""
DEFAULT = "combined"
LOGS, OWN = "held-out episodes of the logs", "episodes of the policy"


@dataclass(frozen=True)
class SupportSettings:
    """How the support is fitted. `slow_downs` is the rate of episodes in which the robot may be slowed down."""

    false_alarms: float = 0.01
    slow_downs: float = 0.1
    updates: int = 2_000
    seed: int = 0


@dataclass(frozen=True)
class Split:
    """Episodes of the logs by their use."""

    fit: Episodes
    tune: Episodes
    calibrate: Episodes


@dataclass(frozen=True)
class Calibration:
    """Thresholds from `episodes` episodes of one kind, and what they bound for such ones."""

    on: str
    episodes: int
    slow: Threshold
    hold: Threshold


@dataclass(frozen=True)
class FittedSupport:
    """A score with its thresholds. `fitted`: how many episodes fitted and tuned it."""

    model: SupportModel
    calibrations: tuple[Calibration, ...]
    fitted: tuple[int, int]

    @property
    def slow(self) -> float:
        """Threshold at which to slow down: keeps the bounds of all calibrations."""
        return max(one.slow.value for one in self.calibrations)

    @property
    def hold(self) -> float:
        """Threshold at which to hold: keeps the bounds of all calibrations."""
        return max(one.hold.value for one in self.calibrations)


def observations_of(data: LoggedData, policy: Policy) -> list[NDArray[np.float32]]:
    """What the policy would have seen in each episode of `data`."""
    episodes = learnable_episodes(data)
    rows = View(policy.observation_spec, policy.temporal).inputs(data, episodes)
    if not np.isfinite(rows).all():
        raise LearningError(f"the data hold {np.count_nonzero(~np.isfinite(rows))} value(s) that are not finite")
    return [rows[episode] for episode in episodes]


def split_episodes(episodes: Episodes, seed: int) -> Split:
    """By a seeded shuffle."""
    count = len(episodes)
    if count < MINIMUM_EPISODES:
        raise LearningError(f"the support of {count} episode(s) cannot be known; expected at least {MINIMUM_EPISODES}")
    shuffled = [episodes[i] for i in np.random.default_rng((seed, 0x5A)).permutation(count)]
    first, second = (round(count * share) for share in (SHARES[0], sum(SHARES)))
    return Split(shuffled[:first], shuffled[first:second], shuffled[second:])


def maxima(model: nn.Module, episodes: Episodes) -> NDArray[np.float64]:
    """Largest filtered score of each episode (n,): what decides whether it alarms."""
    return np.array([filtered(run(model, episode), WINDOW).max() for episode in episodes])


def _rows(episodes: Episodes, seed: int) -> tuple[Tensor, Tensor]:
    """Observations of all episodes and those before them, at most MAXIMUM_FIT_ROWS of each."""
    now = torch.from_numpy(np.concatenate(episodes))
    then = torch.from_numpy(np.concatenate([np.concatenate([e[:1], e[:-1]]) for e in episodes]))
    if len(now) > MAXIMUM_FIT_ROWS:
        kept = torch.randperm(len(now), generator=torch.Generator().manual_seed(seed))[:MAXIMUM_FIT_ROWS]
        now, then = now[kept], then[kept]
    return now, then


def _combined(split: Split, policy: Policy, settings: SupportSettings) -> SupportModel:
    """Range, linear and learned consistency, each in units of what it reaches in the tuning episodes."""
    now, then = _rows(split.fit, settings.seed)
    size, generator = policy.observation_spec.size, torch.Generator().manual_seed(settings.seed)
    features = Pair(now[:, -size:], then[:, -size:])
    x = features(now, then)
    noise = features.noise
    scores = [Range(x), Linear(x, noise), fit_prediction(x, noise[:size], settings.updates, generator)]
    scales = []
    for score in scores:
        reached = maxima(SupportModel(features, score), split.tune)
        scales.append(max(float(reached.max()), SMALLEST_SCALE))
    return SupportModel(features, Worst(scores, scales))


def _simple(
    make_features: Callable[[Tensor, Tensor, Policy], nn.Module], make_score: Callable[[Tensor, int], nn.Module]
) -> Callable[[Split, Policy, SupportSettings], SupportModel]:
    def made(split: Split, policy: Policy, settings: SupportSettings) -> SupportModel:
        now, then = _rows(split.fit, settings.seed)
        features = make_features(now, then, policy)
        with torch.no_grad():
            x = features(now, then)
        return SupportModel(features, make_score(x, settings.seed))

    return made


def _newest(now: Tensor, then: Tensor, policy: Policy) -> nn.Module:
    size = policy.observation_spec.size
    return Newest(now[:, -size:], then[:, -size:])


def _pair(now: Tensor, then: Tensor, policy: Policy) -> nn.Module:
    size = policy.observation_spec.size
    return Pair(now[:, -size:], then[:, -size:])


def _hidden(now: Tensor, then: Tensor, policy: Policy) -> nn.Module:
    return PolicyFeatures(policy)


def _nearest(x: Tensor, seed: int) -> nn.Module:
    return Neighbours(x, torch.Generator().manual_seed(seed))


KINDS: Mapping[str, Callable[[Split, Policy, SupportSettings], SupportModel]] = {
    DEFAULT: _combined,
    "Mahalanobis, observation": _simple(_newest, lambda x, seed: Mahalanobis(x)),
    "Mahalanobis, with change": _simple(_pair, lambda x, seed: Mahalanobis(x)),
    "Mahalanobis, policy features": _simple(_hidden, lambda x, seed: Mahalanobis(x)),
    "neighbours, observation": _simple(_newest, _nearest),
    "neighbours, with change": _simple(_pair, _nearest),
    "neighbours, policy features": _simple(_hidden, _nearest),
    "box, observation": _simple(_newest, lambda x, seed: Range(x)),
    "box, with change": _simple(_pair, lambda x, seed: Range(x)),
}
"""Scores by name. Policy features are of policies without cameras."""


def fit_support(
    data: LoggedData,
    policy: Policy,
    settings: SupportSettings | None = None,
    own: Mapping[str, Episodes] | None = None,
    kind: str = DEFAULT,
) -> FittedSupport:
    """The support of `data` as `policy` sees it; `own`: the policy's own episodes, by what they are called.

    LearningError where there are too few episodes.
    """
    settings = settings or SupportSettings()
    split = split_episodes(observations_of(data, policy), settings.seed)
    return calibrated(KINDS[kind](split, policy, settings), split, settings, own)


def calibrated(
    model: SupportModel, split: Split, settings: SupportSettings, own: Mapping[str, Episodes] | None = None
) -> FittedSupport:
    """`model` with thresholds from the split's calibration episodes, and from those of `own`."""
    found = []
    for on, episodes in {LOGS: split.calibrate, **(own or {})}.items():
        reached = maxima(model.eval(), episodes)
        slow, hold = (conformal_threshold(reached, rate) for rate in (settings.slow_downs, settings.false_alarms))
        found.append(Calibration(on, len(reached), slow, hold))
    return FittedSupport(model, tuple(found), (len(split.fit), len(split.tune)))
