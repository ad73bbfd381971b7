"""Offline policy improvement as in Uni-O4 (Lei et al., arXiv 2311.03351): PPO steps on logged states, gated by FQE.

A round:
    a_i ~ pi(.|s) at logged s,   A(s, a_i) = Q(s, a_i) - mean_j Q(s, a_j),   Q = mean_k Q_k - pessimism * sd_k Q_k
    candidate = some clipped PPO steps from pi on these advantages
    pi <- candidate if J(candidate) - J(pi) > deviations * (its bootstrap deviation), by FQE; else pi stays
Q_k is FQE's ensemble for pi, so every round is on-policy in its values, whatever made the logs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

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
from sealegs_learning.networks import GaussianActor, Policy
from sealegs_learning.reward.sidecar import describe_reward, read_reward
from sealegs_learning.sessions.offline import TrainingData, open_dataset
from sealegs_learning.training.config import TrainConfig
from sealegs_learning.training.start import load_start


def group_advantage(q: Tensor, pessimism: float) -> Tensor:
    """A (M, G) of G actions at each of M states from an ensemble's Q (K, M, G): low Q over members, less its mean."""
    low = q.mean(0) - pessimism * q.std(0)
    return low - low.mean(-1, keepdim=True)


class UniO4Session:
    """Rounds of candidate and gate; counts PPO's gradient steps, those of refused candidates too."""

    unit = "update"

    def __init__(
        self, policy: GaussianActor, steps: LoggedSteps, config: TrainConfig, about: Mapping[str, Any]
    ) -> None:
        c = config.unio4
        self.steps, self.settings, self.about = steps, c, about
        self.total, self.seed = config.updates, config.seed
        rows = c.steps * config.batch_size
        self.states = max(1, rows // c.actions)
        self.generator = torch.Generator().manual_seed(config.seed)
        ppo = replace(config.ppo, epochs=1, clip=c.clip, value_weight=0.0, target_kl=0.0)
        self.ppo = PPO(policy, ppo, config.learning_rate, config.batch_size, self.generator)
        self.rounds = self.accepted = self.done = 0
        self.judge: PolicyEvaluator | None = None

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
        judge = self.judge or self._first_judge()
        before = {name: tensor.clone() for name, tensor in self.ppo.tensors().items()}
        figures = self.ppo.fit(self._samples(judge))
        figures = {name: figures[name] for name in ("policy_loss", "kl", "clip_fraction")}
        gate = self._gate(judge, before)
        incumbent, candidate = gate.values()
        gain = difference(candidate, incumbent)
        deviation = float(np.std(gain.members, ddof=1))
        accepted = gain.value > self.settings.deviations * deviation
        if not accepted:
            self.ppo.load_tensors(before, self.ppo.done)
        self.judge = gate.only(1 if accepted else 0)
        self.rounds += 1
        self.accepted += accepted
        self.done += -(-self.states * self.settings.actions // self.ppo.batch_size)
        value = (candidate if accepted else incumbent).value
        gate_figures = {"value": value, "gain": gain.value, "gain_deviation": deviation, "accepted": self.accepted}
        return figures | gate_figures | {"rounds": self.rounds}

    def _first_judge(self) -> PolicyEvaluator:
        """FQE of the policy that the run starts from, in full."""
        return PolicyEvaluator(self.steps, [self.policy], self.settings.fqe, self.seed).run()

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
        """Actions of the incumbent at logged states, with their advantages; (states * actions) rows."""
        c, policy = self.settings, self.policy
        picked = torch.randint(len(self.steps.reward), (self.states,), generator=self.generator)
        raw = self.steps.observation[picked]
        with torch.no_grad():
            seen = policy.normalizer(raw)
            mean, log_std = policy.mean_action(seen), torch.from_numpy(self.ppo.log_std)
            noise = torch.randn(self.states, c.actions, mean.shape[1], generator=self.generator)
            action = mean[:, None] + noise * torch.exp(log_std)
            q = judge.q_of(raw, action.clamp(-1.0, 1.0))
        advantage = group_advantage(q, c.pessimism)
        log_prob = log_prob_of(noise.numpy(), self.ppo.log_std)
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
        """The incumbent, its Q ensemble, and the generator."""
        judge = self.judge or self._first_judge()
        counts = torch.tensor([self.rounds, self.accepted, self.ppo.done])
        state = self.ppo.tensors() | {"batches.generator": self.generator.get_state(), "counts": counts}
        return state | {f"judge.{name}": tensor for name, tensor in judge.tensors().items()}

    def load_tensors(self, state: Mapping[str, Tensor], done: int) -> None:
        """Inverse of `tensors`."""
        self.rounds, self.accepted, updates = (int(count) for count in state["counts"])
        self.ppo.load_tensors(state, updates)
        self.generator.set_state(state["batches.generator"])
        self.judge = PolicyEvaluator(self.steps, [self.policy], self.settings.fqe, self.seed)
        self.judge.load_tensors({k.removeprefix("judge."): v for k, v in state.items() if k.startswith("judge.")})
        self.done = done


def _networks(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix("networks."): v for k, v in state.items() if k.startswith("networks.")}


def unio4_session(config: TrainConfig, dataset: TrainingData | None = None) -> UniO4Session:
    """Offline improvement of `config.init` on the dataset. LearningError where one of them is missing or unfit."""
    data: Any = dataset if dataset is not None else open_dataset(config)
    if config.init is None:
        raise LearningError("learner unio4 improves a policy that there is: give --init CHECKPOINT")
    start = load_start(config.init, config.unio4.log_std)
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
