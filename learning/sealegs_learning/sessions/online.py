"""Learning in simulation: rollouts of the newest policy, an update on each, and running observation statistics.

The statistics are frozen while a rollout is made and learned from, and live in the policy's normaliser, so that the
exported graph has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sealegs_contract.errors import LearningError, available
from sealegs_learning.learners.experience import Collector, Rollout
from sealegs_learning.learners.ppo import PPO
from sealegs_learning.learners.running import RewardScale, RunningMoments
from sealegs_learning.networks import GaussianActor, Normalizer, Policy
from sealegs_learning.training.config import TrainConfig, total_of
from sealegs_learning.training.robots import describe_robot, simulated_robot
from sealegs_learning.training.start import check_env, load_start
from sealegs_sim.batched import BatchedEnv

HEAD_GAIN = 0.01  # first actions hardly depend on the observation


class OnlineSession:
    """PPO and its envs; counts environment steps, a whole rollout at a time."""

    unit = "step"

    def __init__(self, learner: PPO, env: BatchedEnv, config: TrainConfig, about: Mapping[str, Any]) -> None:
        self.learner, self.about = learner, about
        self.settings, self.total = config.ppo, total_of(config)
        self.collector = Collector(env, config.ppo.horizon, config.seed)
        self.moments = RunningMoments(learner.policy.observations)
        self.reward_scale = RewardScale(env.num_envs, config.ppo.gamma)
        self.frozen = config.init is not None
        self.done = 0

    @property
    def policy(self) -> GaussianActor:
        """What is learned."""
        return self.learner.policy

    def advance(self, until: int) -> dict[str, float]:
        """Rollouts and updates until at least `until` environment steps are done; figures of the last update."""
        figures: dict[str, float] = {}
        while self.done < until:
            figures = self._iterate()
        return figures | self.collector.tally.figures()

    def _iterate(self) -> dict[str, float]:
        rollout = self.collector.collect(self.learner, self.policy.normalizer)
        if self.settings.normalise_rewards:
            rollout = rollout._replace(reward=self.reward_scale(rollout.reward, rollout.ended))
        figures = self._critic_only(rollout) if self.done < self.settings.critic_steps else self.learner.update(rollout)
        if not self.frozen:
            self.moments.update(rollout.raw_observation)
            self.policy.normalizer.set(torch.from_numpy(self.moments.mean), torch.from_numpy(self.moments.deviation))
        self.done += rollout.reward.size
        return figures

    def _critic_only(self, rollout: Rollout) -> dict[str, float]:
        """An update after which the actor, its moments and the rates are as before; the figures of its critic."""
        optimizer, actor = self.learner.optimizer, self.learner.optimizer.param_groups[0]["params"][0]
        kept, rates = actor.detach().clone(), [group["lr"] for group in optimizer.param_groups]
        figures = self.learner.update(rollout)
        with torch.no_grad():
            actor.copy_(kept)
        optimizer.state.pop(actor, None)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        return {name: figures[name] for name in ("value_loss", "explained_variance")}

    def tensors(self) -> dict[str, Tensor]:
        """Learner, envs, generators and running statistics."""
        rates = [float(group["lr"]) for group in self.learner.optimizer.param_groups]
        state = self.learner.tensors() | {
            "batches.generator": self.learner.generator.get_state(),
            "rates": torch.tensor(rates, dtype=torch.float64),
        }
        for prefix, part in self._parts().items():
            state |= {f"{prefix}.{name}": tensor for name, tensor in part.tensors().items()}
        return state

    def load_tensors(self, state: Mapping[str, Tensor], done: int) -> None:
        """Inverse of `tensors`."""
        self.learner.load_tensors(state, done)
        self.learner.generator.set_state(state["batches.generator"])
        for group, rate in zip(self.learner.optimizer.param_groups, state["rates"].tolist(), strict=True):
            group["lr"] = rate
        for prefix, part in self._parts().items():
            start = f"{prefix}."
            part.load_tensors({k.removeprefix(start): v for k, v in state.items() if k.startswith(start)})
        self.done = done

    def _parts(self) -> dict[str, Any]:
        return {"collector": self.collector, "moments": self.moments, "reward_scale": self.reward_scale}


def online_session(config: TrainConfig) -> OnlineSession:
    """A fresh policy, or that of `config.init`, and its envs for `config.task`.

    Raises LearningError where there is no such task, or the policy does not fit it.
    """
    start = None if config.init is None else load_start(config.init, config.hidden, config.ppo.finetune_log_std)
    env = make_env(config, None if start is None else start.policy)
    generator = torch.Generator().manual_seed(config.seed)
    about: dict[str, Any] = {"task": config.task, **describe_robot(env)}
    if start is None:
        policy = new_policy(config, env, generator)
    else:
        check_env(start.policy, env, config.task)
        policy, about["init"] = start.policy, dict(start.about)
    learner = PPO(policy, config.ppo, config.learning_rate, config.batch_size, generator)
    return OnlineSession(learner, env, config, about)


def make_env(config: TrainConfig, start: GaussianActor | None = None) -> BatchedEnv:
    """The vector env of a robot's task or of a locomotion benchmark by name, for PPO or for IQL's fine-tuning.

    The robot is that of `config`, or of the policy that training starts from: see `simulated_robot`.
    """
    from sealegs_sim.delays import Delays
    from sealegs_sim.locomotion import LOCOMOTION, LocomotionEnv
    from sealegs_sim.tasks import TASKS
    from sealegs_sim.vector import BatchEnv

    c, threads = config.ppo if config.learner == "ppo" else config.finetune, config.ppo.threads
    if config.task in LOCOMOTION:
        if config.robot or config.delays:
            named = f"robot {config.robot}" if config.robot else "a robot: it has no delays"
            raise LearningError(f"{config.task} is a walker of its own, not a task of {named}")
        return LocomotionEnv(config.task, c.envs, threads, "same_step")
    if config.task in TASKS:
        robot = simulated_robot(config, start)
        delays = None if config.delays is None else Delays.read(config.delays)
        return BatchEnv(config.task, c.envs, robot, threads, "same_step", c.randomise, delays)
    raise LearningError(f"learning online needs a simulation: give --task; {available([*TASKS, *LOCOMOTION])}")


def new_policy(config: TrainConfig, env: BatchedEnv, generator: torch.Generator) -> GaussianActor:
    """The first policy: hidden layers orthogonal, actions near zero, observations not yet normalised."""
    from sealegs_sim.vector import BatchEnv

    c = config.ppo
    observations, actions = env.single_observation_space.shape[0], env.single_action_space.shape[0]
    identity = Normalizer(torch.zeros(observations), torch.ones(observations))
    shape = (config.task, c.activation, c.bound)
    policy: GaussianActor
    if isinstance(env, BatchEnv):
        scene = env.scene
        policy = Policy(
            env.robot, scene.observation_spec, scene.action_spec, identity, config.layers, generator, *shape
        )
    else:
        policy = GaussianActor(observations, actions, config.layers, identity, generator, *shape)
    with torch.no_grad():
        list(policy.actor.parameters())[-2].mul_(HEAD_GAIN / math.sqrt(2.0))  # the last layer's weights
        policy.log_std.fill_(c.initial_log_std)
    return policy
