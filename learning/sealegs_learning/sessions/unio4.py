"""Offline policy improvement as in Uni-O4 (Lei et al., arXiv 2311.03351): PPO steps on logged states, gated by FQE.

pi_0 is the policy that it starts from, Q_k FQE's ensemble for what made the logs. A round:
    a_i ~ pi_0(.|s) at logged s,   A(s, a_i) = Q(s, a_i) - mean_j Q(s, a_j),   Q = mean_k Q_k - pessimism * sd_k Q_k
    candidate = some steps from pi on min(rho A, clip(rho, 1 +- clip) A),   rho = candidate(a|s) / pi_0(a|s)
    pi <- candidate if J(candidate) - J(pi) > deviations * (its bootstrap deviation), by FQE; else pi stays
The logs' Q never asks what a policy would do where nobody has been. The paper's ratio is to the policy of the last
round. Here it stays with pi_0: one trust region for all rounds, beyond which neither A nor FQE knows anything. The
paper's pi_0 is each of four cloned policies; here it is any one policy.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sealegs_contract.errors import LearningError
from sealegs_learning.evaluation.policy_value import (
    LoggedSteps,
    PolicyEvaluator,
    actions_in,
    check_policy,
    difference,
    logged_steps,
)
from sealegs_learning.learners.ppo import PPO, Samples
from sealegs_learning.learners.ppo_equations import log_prob_of
from sealegs_learning.networks import LOG_STD_MAX, LOG_STD_MIN, GaussianActor, Policy
from sealegs_learning.reward.sidecar import describe_reward, read_reward
from sealegs_learning.sessions.offline import TrainingData, open_dataset
from sealegs_learning.training.config import TrainConfig, total_of
from sealegs_learning.training.start import load_start


def group_advantage(q: Tensor, pessimism: float) -> Tensor:
    """A (M, G) of G actions at each of M states from an ensemble's Q (K, M, G): low Q over members, less its mean."""
    low = q.mean(0) - pessimism * q.std(0)
    return low - low.mean(-1, keepdim=True)


class _Judges(NamedTuple):
    """FQE of what made the logs, and of the incumbent."""

    logs: PolicyEvaluator
    incumbent: PolicyEvaluator


class UniO4Session:
    """Rounds of candidate and gate; counts PPO's gradient steps, those of refused candidates too."""

    unit = "update"

    def __init__(
        self, policy: GaussianActor, steps: LoggedSteps, config: TrainConfig, about: Mapping[str, Any]
    ) -> None:
        c = config.unio4
        self.steps, self.settings, self.about = steps, c, about
        self.total, self.seed = total_of(config), config.seed
        self.states, self.round_steps = c.round_of(config.batch_size)
        self.generator = torch.Generator().manual_seed(config.seed)
        ppo = replace(config.ppo, epochs=1, clip=c.clip, value_weight=0.0, target_kl=0.0)
        self.ppo = PPO(policy, ppo, config.learning_rate, config.batch_size, self.generator)
        self.rounds = self.accepted = self.done = 0
        self.first = copy.deepcopy(policy).requires_grad_(False)
        self.judges: _Judges | None = None

    @property
    def policy(self) -> GaussianActor:
        """The incumbent."""
        return self.ppo.policy

    def advance(self, until: int) -> dict[str, float]:
        """Rounds until at least `until` gradient steps are done; figures of the last one."""
        figures: dict[str, float] = {}
        while self.done < until:
            figures = self._round()
        return figures

    def _round(self) -> dict[str, float]:
        judges = self.judges or self._first_judges()
        before = {name: tensor.clone() for name, tensor in self.ppo.tensors().items()}
        figures = self.ppo.fit(self._samples(judges.logs))
        figures = {name: figures[name] for name in ("policy_loss", "kl", "clip_fraction")}
        gate = self._gate(judges.incumbent, before)
        incumbent, candidate = gate.values()
        gain = difference(candidate, incumbent)
        deviation = float(np.std(gain.members, ddof=1))
        accepted = gain.value > self.settings.deviations * deviation
        if not accepted:
            self.ppo.load_tensors(before, self.ppo.done)
        self.judges = _Judges(judges.logs, gate.only(1 if accepted else 0))
        self.rounds += 1
        self.accepted += accepted
        self.done += self.round_steps
        value = (candidate if accepted else incumbent).value
        gate_figures = {"value": value, "gain": gain.value, "gain_deviation": deviation, "accepted": self.accepted}
        return figures | gate_figures | {"rounds": self.rounds}

    def _first_judges(self) -> _Judges:
        """FQE of the logs' behaviour and of the first policy, in full."""
        both = PolicyEvaluator(self.steps, [None, self.first], self.settings.fqe, self.seed).run()
        return _Judges(both.only(0), both.only(1))

    def _gate(self, judge: PolicyEvaluator, before: Mapping[str, Tensor]) -> PolicyEvaluator:
        """FQE of incumbent and candidate, both from the incumbent's Q on: paired, and far cheaper than anew."""
        candidate = self.ppo.tensors()
        settings = replace(self.settings.fqe, updates=self.settings.gate_updates)
        with torch.no_grad():
            actions = []
            for state in (before, candidate):
                self.ppo.networks.load_state_dict(_networks(state))
                actions.append(actions_in(self.steps, self.policy))
        gate = judge.successor(actions, settings, self.seed + 1 + self.rounds)
        return gate.run()

    def _samples(self, judge: PolicyEvaluator) -> Samples:
        """Actions of the first policy at logged states, with their advantages; (states * actions) rows."""
        c, policy = self.settings, self.first
        picked = torch.randint(len(self.steps.reward), (self.states,), generator=self.generator)
        raw = self.steps.observation[picked]
        with torch.no_grad():
            seen = policy.normalizer(raw)
            mean, log_std = policy.mean_action(seen), policy.log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
            noise = torch.randn(self.states, c.actions, mean.shape[1], generator=self.generator)
            action = mean[:, None] + noise * torch.exp(log_std)
            q = judge.q_of(raw, action.clamp(-1.0, 1.0))
        advantage = group_advantage(q, c.pessimism)
        log_prob = log_prob_of(noise.numpy(), log_std.numpy())
        empty = np.zeros(action.shape[0] * action.shape[1], dtype=np.float32)
        return Samples(
            seen.repeat_interleave(c.actions, 0).numpy(),
            action.flatten(0, 1).numpy(),
            np.asarray(log_prob, dtype=np.float32).reshape(-1),
            advantage.flatten().numpy(),
            empty,
            empty,
        )

    def tensors(self) -> dict[str, Tensor]:
        """The incumbent, both Q ensembles, and the generator."""
        judges = self.judges or self._first_judges()
        counts = torch.tensor([self.rounds, self.accepted, self.ppo.done])
        state = self.ppo.tensors() | {"batches.generator": self.generator.get_state(), "counts": counts}
        for kind, judge in judges._asdict().items():
            state |= {f"{kind}.{name}": tensor for name, tensor in judge.tensors().items()}
        return state

    def load_tensors(self, state: Mapping[str, Tensor], done: int) -> None:
        """Inverse of `tensors`."""
        self.rounds, self.accepted, updates = (int(count) for count in state["counts"])
        self.ppo.load_tensors(state, updates)
        self.generator.set_state(state["batches.generator"])
        self.judges = _Judges(
            *(PolicyEvaluator(self.steps, [policy], self.settings.fqe, self.seed) for policy in (None, self.policy))
        )
        for kind, judge in self.judges._asdict().items():
            start = f"{kind}."
            judge.load_tensors({k.removeprefix(start): v for k, v in state.items() if k.startswith(start)})
        self.done = done


def _networks(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix("networks."): v for k, v in state.items() if k.startswith("networks.")}


def unio4_session(config: TrainConfig, dataset: TrainingData | None = None) -> UniO4Session:
    """Offline improvement of `config.init` on the dataset. LearningError where one of them is missing or unfit."""
    data: Any = dataset if dataset is not None else open_dataset(config)
    if config.init is None:
        raise LearningError("learner unio4 improves a policy that there is: give --init CHECKPOINT")
    start = load_start(config.init, config.hidden, config.unio4.log_std)
    if not isinstance(start.policy, Policy):
        raise LearningError(f"{config.init} holds a benchmark's actor, but the dataset is a robot's")
    check_policy(start.policy, data, str(config.init))
    reward = describe_reward(data, config.reward)
    about = {
        "init": dict(start.about),
        "dataset_fingerprint": data.fingerprint,
        "reward": {key: reward[key] for key in ("name", "parquet_sha256") if key in reward},
    }
    return UniO4Session(start.policy, logged_steps(data, read_reward(data, config.reward).mean), config, about)
