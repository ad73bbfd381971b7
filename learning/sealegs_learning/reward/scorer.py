"""From a learned reward r(o) to a scorer of actions: what best-of-N picks by at deployment.

The reward sees one time step, so all candidates at an observation have the same. What tells them apart is what follows:

    Q_k(o, a) = E[ sum_t gamma^t r_k(o_{t+1}) | a first, the policy's mean from then on ]
    score_k   = (Q_k - m_k) / s_k

Q_k is fitted Q evaluation of the policy under reward member k, on resample k of the logged episodes. If Q is right,
then taking the best of any candidates among which is the policy's own action is no worse than the policy (policy
improvement). A reward is known only up to an offset and a shaping term gamma Phi(o') - Phi(o) (Ng et al. 1999), which
change Q by a function of o alone: so only differences between actions at one observation may be read, member by
member. m_k keeps the scores small. s_k, the deviation of those differences over the logs, gives members one unit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sealegs_contract.errors import LearningError, available
from sealegs_contract.spec import ActionSpec
from sealegs_learning.evaluation.policy_value import LoggedSteps, Prepared, actions_of, check_settings, logged_steps
from sealegs_learning.learners.fqe import FQE, value_bounds
from sealegs_learning.learners.settings import FQESettings
from sealegs_learning.networks import LOG_STD_MAX, LOG_STD_MIN, Normalizer, Policy, StackedPerceptron
from sealegs_learning.policies.view import View
from sealegs_learning.reward.builtin import BUILTIN_REWARDS
from sealegs_learning.reward.learn import RewardSource, raw_rewards
from sealegs_learning.reward.sidecar import describe_reward, load_reward_model, read_reward, reward_names
from sealegs_learning.training.config import RewardConfig
from sealegs_learning.transitions import LoggedData, learnable_episodes

Progress = Callable[[int, int], None]
"""Called as progress(update, updates)."""
SETTINGS = FQESettings(updates=4_000, hidden=(128, 128))
SPREAD = 0.25
"""Deviation of the candidates as a share of the policy's own: far from its mean the critics know little."""
CALIBRATION_ROWS, CALIBRATION_CANDIDATES = 1_000, 8


class ActionScorer(nn.Module):
    """Raw observations (B, history * D) and actions (B, J) in [-1, 1] -> scores (B, K), one a member."""

    offset: Tensor
    scale: Tensor

    def __init__(self, normalizer: Normalizer, critics: StackedPerceptron) -> None:
        super().__init__()
        self.normalizer, self.critics = normalizer, critics
        self.register_buffer("offset", torch.zeros(critics.members))
        self.register_buffer("scale", torch.ones(critics.members))

    @property
    def members(self) -> int:
        """K."""
        return self.critics.members

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """(Q_k - m_k) / s_k, (B, K)."""
        q: Tensor = self.critics(torch.cat([self.normalizer(observation), action], dim=-1))
        return (q.squeeze(-1).transpose(0, 1) - self.offset) / self.scale

    def calibrate(self, observation: Tensor, mean: Tensor, std: Tensor, generator: torch.Generator) -> None:
        """Set m_k and s_k from observations (M, H D), the policy's actions there (M, J), and the candidates' std (J,).

        LearningError where a member scores all actions alike.
        """
        rows, size = mean.shape
        noise = torch.randn(CALIBRATION_CANDIDATES, rows, size, generator=generator)
        with torch.no_grad():
            own = self(observation, mean)
            drawn = torch.stack([self(observation, (mean + std * z).clamp(-1.0, 1.0)) for z in noise])
            scale = (drawn - own).double().square().mean((0, 1)).sqrt()
            if not bool((scale > 1e-9).all()):
                raise LearningError("a critic scores all actions alike: the reward does not depend on what is done")
            self.offset.copy_(own.double().mean(0))
            self.scale.copy_(scale)


class ScorerInRad(nn.Module):
    """An ActionScorer of actions as a policy's graph puts them out: ActionSpec.to_action comes first."""

    scale: Tensor
    shift: Tensor

    def __init__(self, scorer: ActionScorer, action: ActionSpec) -> None:
        super().__init__()
        self.scorer = scorer
        self.register_buffer("scale", torch.tensor(action.scale_rad, dtype=torch.float32))
        self.register_buffer("shift", torch.tensor(action.offset_rad, dtype=torch.float32))

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Scores (B, K) of actions (B, J) in rad at raw observations (B, history * D)."""
        scores: Tensor = self.scorer(observation, (action - self.shift) / self.scale)
        return scores


def candidate_std(policy: Policy, spread: float = SPREAD) -> Tensor:
    """Deviation (J,) of the candidates, in units of the action. LearningError where there is none to draw with."""
    log_std: Any = policy.log_std
    if policy.temporal.chunk > 1 or policy.observation_spec.images or log_std is None:
        raise LearningError(
            "best-of-N needs a policy with a Gaussian over single actions that sees no camera; this one "
            + ("puts out chunks" if policy.temporal.chunk > 1 else "has bins" if log_std is None else "sees cameras")
        )
    if not 0.0 < spread <= 1.0:
        raise LearningError(f"the candidates' spread must be in (0, 1], got {spread:g}")
    std: Tensor = log_std.detach().clamp(LOG_STD_MIN, LOG_STD_MAX).exp() * spread
    return std


def member_rewards(data: RewardSource, name: str) -> NDArray[np.float32]:
    """Rewards (R, N) of all rows under every member of the learned reward `name`; the built-in `true` has one."""
    if name in ("constant", "none", ""):
        raise LearningError(
            "candidates need a reward that ranks them, and the policy was trained without one: name a learned reward "
            f"of the dataset; {available(reward_names(data))}"
        )
    if name in BUILTIN_REWARDS:
        return read_reward(data, name).mean[None]
    about, model = describe_reward(data, name), load_reward_model(data, name)
    settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in about["config"].items()}
    raw = raw_rewards(model, data, RewardConfig(data.path, name=name, **settings))
    rewards: NDArray[np.float32] = ((raw - model.offset) / model.scale).numpy()
    return rewards


def fit_scorer(
    policy: Policy,
    data: LoggedData,
    rewards: NDArray[np.float32],
    settings: FQESettings = SETTINGS,
    spread: float = SPREAD,
    seed: int = 0,
    progress: Progress | None = None,
) -> ActionScorer:
    """Critics of `policy` on the logs, critic k under reward member k modulo R of `rewards` (R, N).

    LearningError where there are no candidates to draw, the data do not fit, or the rewards are not finite.
    """
    check_settings(settings, "scorer")
    std, generator = candidate_std(policy, spread), torch.Generator().manual_seed(seed)
    if policy.action_spec != data.action_spec:
        raise LearningError("the policy's actions are scaled otherwise than the dataset's: critics cannot compare them")
    if not np.isfinite(rewards).all() or rewards.ndim != 2:
        raise LearningError(f"expected finite rewards (members, rows), got shape {rewards.shape}")
    steps, following = _steps_of(policy, data, rewards)
    prepared = Prepared.of(steps, settings, generator)
    of_member = torch.from_numpy(rewards)[torch.arange(settings.members) % len(rewards)][:, following]
    reward = _standardised(of_member)
    critics = _fit(policy, steps, prepared, reward, settings, generator, progress)
    scorer = ActionScorer(prepared.normalizer, critics).requires_grad_(False).eval()
    rows = torch.randint(len(following), (CALIBRATION_ROWS,), generator=generator)
    seen = steps.observation[rows]
    scorer.calibrate(seen, actions_of(policy, seen), std, generator)
    return scorer


def _steps_of(policy: Policy, data: LoggedData, rewards: NDArray[np.float32]) -> tuple[LoggedSteps, Tensor]:
    """Transitions as the policy sees them, with its history; and the row in which each ended."""
    steps, episodes = logged_steps(data, rewards.mean(0)), learnable_episodes(data)
    raw = torch.from_numpy(View(policy.observation_spec, policy.temporal).inputs(data, episodes))
    following = torch.cat([torch.arange(e.start + 1, e.stop) for e in episodes])
    first = raw[[e.start for e in episodes]]
    seen = {"observation": raw[following - 1], "next_observation": raw[following], "initial": first}
    return replace(steps, **seen), following


def _standardised(reward: Tensor) -> Tensor:
    """Zero mean and unit deviation of each member (K, M). LearningError where one is constant."""
    wide = reward.double()
    scale = wide.std(1, unbiased=False, keepdim=True)
    if not bool((scale > 1e-9).all()):
        raise LearningError("a member of the reward is the same everywhere: it ranks nothing")
    return ((wide - wide.mean(1, keepdim=True)) / scale).float()


def _fit(
    policy: Policy,
    steps: LoggedSteps,
    prepared: Prepared,
    reward: Tensor,
    settings: FQESettings,
    generator: torch.Generator,
    progress: Progress | None,
) -> StackedPerceptron:
    fqe = FQE(prepared.now.shape[1], steps.action.shape[1], 1, settings, generator)
    next_action = actions_of(policy, steps.next_observation)[None]
    bounds = value_bounds(reward, settings.gamma)
    loss = torch.zeros(())
    while fqe.done < settings.updates:
        rows = torch.randint(len(steps.action), (settings.batch_size,), generator=generator)
        loss = fqe.update(
            prepared.now[rows],
            steps.action[rows],
            reward[:, rows],
            steps.terminal[rows],
            prepared.next[rows],
            next_action[:, rows],
            prepared.counts[:, steps.episode[rows]],
            bounds,
        )
        if progress is not None and fqe.done % 100 == 0:
            progress(fqe.done, settings.updates)
    if not bool(torch.isfinite(loss)):
        raise LearningError(f"the critics diverged: their loss is {float(loss)}")
    return fqe.q
