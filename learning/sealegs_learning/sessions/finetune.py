"""IQL's fine-tuning in simulation (Kostrikov et al., arXiv 2110.06169, section 5.3).

The policy acts with noise; what happens is kept beside the logs, and every batch is drawn from both. The actor's rate
does not decay, and rewards are scaled as the logs' were, so that Q and V go on from where they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sealegs_contract.errors import LearningError, available
from sealegs_learning.evaluation.policy_value import check_policy
from sealegs_learning.learners.iql import IQL
from sealegs_learning.learners.running import EpisodeTally
from sealegs_learning.networks import GaussianActor, Policy
from sealegs_learning.reward.sidecar import read_reward
from sealegs_learning.sessions.offline import TrainingData, open_dataset, scaled_reward
from sealegs_learning.sessions.online import make_env
from sealegs_learning.training.config import TrainConfig, total_of
from sealegs_learning.training.robots import describe_robot
from sealegs_learning.training.start import check_env, load_start
from sealegs_learning.transitions import Batch, Transitions, build_transitions
from sealegs_sim.batched import BatchedEnv, generator_from_words, generator_words

NO_DECAY = 1 << 60
"""Updates over which the actor's rate would decay."""


def affine_scale(raw: NDArray[np.float32], scaled: NDArray[np.float32]) -> tuple[float, float]:
    """(factor, shift) with scaled = factor * raw + shift, from rewards (N,) before and after normalisation."""
    low, high = int(np.argmin(raw)), int(np.argmax(raw))
    span = float(raw[high]) - float(raw[low])
    factor = (float(scaled[high]) - float(scaled[low])) / span if span > 0.0 else 1.0
    return factor, float(scaled[low]) - factor * float(raw[low])


class FinetuneSession:
    """IQL with a growing memory of its own steps beside the logs'; counts environment steps."""

    unit = "step"

    def __init__(
        self,
        learner: IQL,
        logs: Transitions,
        scale: tuple[float, float],
        env: BatchedEnv,
        config: TrainConfig,
        about: Mapping[str, Any],
    ) -> None:
        c = config.finetune
        self.learner, self.logs, self.env, self.about, self.settings = learner, logs, env, about, c
        self.factor, self.shift = scale
        self.batch_size, self.total, self.done = config.batch_size, total_of(config), 0
        self.own_share = config.batch_size - round(config.batch_size * c.offline_share)
        self.batches = torch.Generator().manual_seed(config.seed + 1)
        self.noise = np.random.default_rng((config.seed, 1))
        both = torch.cat([logs.packed, torch.zeros(self.total, logs.packed.shape[1])])
        self.memory = replace(logs, packed=both)  # the logs, then own steps
        self.observation = np.asarray(env.reset(seed=config.seed)[0])
        self.tally = EpisodeTally(env.num_envs)

    @property
    def policy(self) -> GaussianActor:
        """What is learned."""
        return self.learner.policy

    def advance(self, until: int) -> dict[str, float]:
        """Steps of all envs and their updates until at least `until` environment steps are done."""
        metrics: dict[str, Tensor] = {}
        while self.done < until:
            self._step()
            due = self._updates_due()
            for left in reversed(range(due)):
                metrics = self.learner.update(self._batch(), measured=left == 0)
        return {name: float(value) for name, value in metrics.items()} | self.tally.figures()

    def _updates_due(self) -> int:
        """Updates that the steps done so far ask for and that are not done yet."""
        return int(self.done * self.settings.updates_per_step) - self.learner.done

    def _step(self) -> None:
        """One step of every env, kept in the memory."""
        before = torch.from_numpy(np.asarray(self.observation, dtype=np.float32))
        with torch.no_grad():
            mean = self.policy(before).numpy()
        noise = self.noise.standard_normal(mean.shape) * self.settings.noise
        action = np.clip(mean + noise, -1.0, 1.0).astype(np.float32)
        self.observation, reward, terminated, truncated, info = self.env.step(action)
        ended = terminated | truncated
        after = np.where(ended[:, None], info["final_obs"], self.observation) if ended.any() else self.observation
        self.tally.step(reward)
        if ended.any():
            self.tally.end(ended, info["final_info"].get("success"))
        rows = Transitions.pack(
            before,
            torch.from_numpy(action),
            torch.from_numpy(np.asarray(self.factor * reward + self.shift, dtype=np.float32)),
            torch.from_numpy(np.asarray(after, dtype=np.float32)),
            torch.from_numpy(terminated.astype(np.float32)),
            self.logs.normalizer,
        )
        self._own[self.done : self.done + len(rows)] = rows.packed
        self.done += len(rows)

    @property
    def _own(self) -> Tensor:
        """Own steps, those to come being zero."""
        return self.memory.packed[len(self.logs) :]

    def _batch(self) -> Batch:
        """Own steps and logged ones in the shares that were asked for."""
        own = len(self.logs) + torch.randint(self.done, (self.own_share,), generator=self.batches)
        logged = self.logs.draw(self.batches, self.batch_size - self.own_share)[0]
        return self.memory.rows(torch.cat([own, logged]))

    def tensors(self) -> dict[str, Tensor]:
        """Learner, memory, envs and generators."""
        state = {f"env.{name}": torch.from_numpy(np.array(value)) for name, value in self.env.state().items()}
        state |= {f"tally.{name}": tensor for name, tensor in self.tally.tensors().items()}
        state |= {
            "batches.generator": self.batches.get_state(),
            "noise": torch.from_numpy(generator_words(self.noise)),
            "memory": self._own[: self.done].clone(),
            "updates": torch.tensor(self.learner.done),
        }
        return self.learner.tensors() | state

    def load_tensors(self, state: Mapping[str, Tensor], done: int) -> None:
        """Inverse of `tensors`."""
        self.learner.load_tensors(state, int(state["updates"]))
        self.batches.set_state(state["batches.generator"])
        self.noise = generator_from_words(state["noise"].numpy())
        self._own[:done] = state["memory"]
        self.tally.load_tensors({k.removeprefix("tally."): v for k, v in state.items() if k.startswith("tally.")})
        env = {k.removeprefix("env."): v.numpy() for k, v in state.items() if k.startswith("env.")}
        self.observation = np.asarray(self.env.set_state(env))
        self.done = done


def finetune_session(config: TrainConfig, dataset: TrainingData | None = None) -> FinetuneSession:
    """IQL of `config.init`, with its Q and V where it was IQL's, in the simulation of `config.task` or the dataset's.

    Raises LearningError where init, dataset or task are missing or do not fit each other.
    """
    if config.init is None:
        raise LearningError("fine-tuning goes on from a policy that there is: give --init CHECKPOINT")
    if config.reward != "true":
        raise LearningError(f"the simulation pays true progress, so the logs must too: reward {config.reward!r}")
    data: Any = dataset if dataset is not None else open_dataset(config)
    start = load_start(config.init, config.hidden)
    config = replace(config, task=config.task or task_of(data))
    start.policy.task = start.policy.task or config.task
    env = make_env(config, start.policy)
    check_env(start.policy, env, config.task)
    if isinstance(start.policy, Policy):
        check_policy(start.policy, data, str(config.init))
    raw = read_reward(data, config.reward).mean
    scaled = scaled_reward(config, read_reward(data, config.reward), data)
    logs = build_transitions(data, scaled, None)
    logs = _seen_by(start.policy, logs)
    generator = torch.Generator().manual_seed(config.seed)
    learner = IQL(start.policy, config.iql, config.learning_rate, NO_DECAY, generator)
    if any(name.startswith("networks.q.") for name in start.tensors):
        learner.load_tensors(start.tensors, 0)
    about = {"task": config.task, "init": dict(start.about), "dataset_fingerprint": data.fingerprint}
    about |= describe_robot(env)
    return FinetuneSession(learner, logs, affine_scale(raw, scaled), env, config, about)


def task_of(data: TrainingData) -> str:
    """The task of the dataset. LearningError where it has several, or one that is not simulated."""
    from sealegs_sim.tasks import TASKS

    tasks = sorted({str(episode.task) for episode in data.episodes})
    if len(tasks) != 1 or tasks[0] not in TASKS:
        named = ", ".join(map(repr, tasks)) or "none"
        raise LearningError(
            f"fine-tuning needs one simulated task, but the dataset's are {named}: give --task; {available(TASKS)}"
        )
    return tasks[0]


def _seen_by(policy: GaussianActor, logs: Transitions) -> Transitions:
    """The logs under the policy's normaliser in place of their own."""
    s, a, r, s_next, terminal = logs.rows(torch.arange(len(logs)))
    own = logs.normalizer
    raw = (x * own.std + own.mean for x in (s, s_next))
    return Transitions.pack(next(raw), a, r, next(raw), terminal, policy.normalizer)
