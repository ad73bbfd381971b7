"""Proximal policy optimisation (Schulman et al., arXiv 1707.06347): clipped steps on a policy's own recent experience.

One update:  V on the rollout, GAE, then `epochs` times over it in minibatches:
    loss = L_pi + value_weight L_V - entropy_weight H        (ppo_equations)
Gradients are worked out by hand (`Backprop`) and checked against autograd in the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sealegs_learning.learners.backprop import Backprop, gradient_of
from sealegs_learning.learners.base import Trainable
from sealegs_learning.learners.experience import Rollout
from sealegs_learning.learners.ppo_equations import (
    adapted_rate,
    approximate_kl,
    clipped_surrogate,
    entropy,
    explained_variance,
    gae,
    log_prob_of,
    surrogate_slope,
    value_loss,
    value_slope,
)
from sealegs_learning.learners.settings import PPOSettings
from sealegs_learning.networks import LOG_STD_MAX, LOG_STD_MIN, GaussianActor, perceptron

FloatArray = NDArray[np.float32]
MEASURED = 8  # losses cost a tenth of a step and are as good from every eighth, and the last
ADAM_EPSILON = 1e-5  # as PPO's first implementation has it, and stable-baselines3


class Samples(NamedTuple):
    """What PPO steps on, row by row: normalised observations (M, D), actions (M, J), and (M,) each: log pi_old(a|s),
    advantages, value targets, values before the update."""

    observation: FloatArray
    action: FloatArray
    log_prob: FloatArray
    advantage: FloatArray
    target: FloatArray
    value: FloatArray


class _Minibatch(NamedTuple):
    """Rows of `Samples`; the observations as the tensor that the networks read."""

    observation: Tensor
    action: FloatArray
    log_prob: FloatArray
    advantage: FloatArray
    target: FloatArray
    value: FloatArray


class PPO(Trainable):
    """The algorithm around a policy. `critic` maps normalised observations (B, D) to values (B, 1)."""

    def __init__(
        self,
        policy: GaussianActor,
        settings: PPOSettings,
        learning_rate: float,
        batch_size: int,
        generator: torch.Generator,
        critic: nn.Sequential | None = None,
    ) -> None:
        self.policy, self.settings, self.batch_size, self.generator = policy, settings, batch_size, generator
        self.critic = critic or new_critic(policy, generator)
        self.networks = nn.ModuleDict({"policy": policy, "critic": self.critic})
        self.learning_rate = learning_rate
        self.optimizer = self._make_optimizer()
        if own := settings.critic_learning_rate:
            self.optimizer.param_groups[1]["lr"] = own
        else:  # one group of both is a third cheaper to step than two
            self.optimizer = torch.optim.Adam(self._flat, lr=learning_rate, fused=True)
        for group in self.optimizer.param_groups:
            group["eps"] = ADAM_EPSILON
        self._actor, self._critic = Backprop.of(policy.actor), Backprop.of(self.critic)
        self._log_std = policy.log_std.detach().numpy()
        self._log_std_gradient = gradient_of(policy.log_std).numpy()

    @property
    def log_std(self) -> FloatArray:
        """Log deviations of the actions (J,), within the policy's bounds."""
        bounded: FloatArray = np.minimum(np.maximum(self._log_std, LOG_STD_MIN), LOG_STD_MAX)
        return bounded

    def mean_action(self, observation: Tensor) -> FloatArray:
        """Mean actions (B, J) at normalised observations (B, D); overwritten by the next call of the same size."""
        mean: FloatArray = self._actor.forward(observation).numpy()
        if self.policy.bound == "tanh":
            np.tanh(mean, out=mean)
        return mean

    def values(self, observation: Tensor) -> FloatArray:
        """V (B,) at normalised observations (B, D)."""
        return self._critic.forward(observation)[:, 0].numpy().copy()

    def update(self, rollout: Rollout) -> dict[str, float]:
        """Learn from one rollout; figures of the whole update."""
        return self.fit(self.samples(rollout))

    def samples(self, rollout: Rollout) -> Samples:
        """Advantages and value targets of a rollout (T, N), as M = T N rows."""
        shape = rollout.reward.shape
        value = self.values(torch.from_numpy(rollout.observation)).reshape(shape)
        next_value = np.empty_like(value)
        next_value[:-1] = value[1:]
        next_value[-1] = self.values(torch.from_numpy(rollout.last_observation))
        if len(rollout.final_observation):
            next_value[rollout.ended] = self.values(torch.from_numpy(rollout.final_observation))
        c = self.settings
        advantage = gae(rollout.reward, value, next_value, rollout.terminated, rollout.ended, c.gamma, c.lam)
        target = advantage + value
        flat = (rollout.log_prob, advantage, target, value)
        return Samples(
            rollout.observation, rollout.action, *(np.asarray(array, dtype=np.float32).reshape(-1) for array in flat)
        )

    def fit(self, samples: Samples) -> dict[str, float]:
        """The epochs of minibatches over `samples`; losses are means over some of the steps, KL and clip fraction of
        all samples after the last.
        """
        losses: list[tuple[float, float]] = []
        last = -(-len(samples.action) // self.batch_size) - 1
        for epoch in range(1, self.settings.epochs + 1):
            for i, batch in enumerate(self._minibatches(samples)):
                found = self._step(batch, i == last or i % MEASURED == MEASURED - 1)
                losses += [found] if found else []
            if self.settings.target_kl > 0.0 or epoch == self.settings.epochs:
                kl, clip_fraction = self._moved(samples)
                self._adapt_rate(kl)
        self.done += 1
        policy_loss, found_value_loss = map(float, np.mean(losses, axis=0))
        return {
            "policy_loss": policy_loss,
            "value_loss": found_value_loss,
            "kl": kl,
            "clip_fraction": clip_fraction,
            "entropy": entropy(self.log_std),
            "explained_variance": explained_variance(samples.value, samples.target),
            "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
        }

    def _moved(self, samples: Samples) -> tuple[float, float]:
        """How far the policy is from the one that acted: KL, and the share of ratios outside the clip range."""
        log_std = self.log_std
        z = (samples.action - self.mean_action(torch.from_numpy(samples.observation))) * np.exp(-log_std)
        log_ratio = log_prob_of(z, log_std) - samples.log_prob
        return approximate_kl(log_ratio), float((np.abs(np.expm1(log_ratio)) > self.settings.clip).mean())

    def _adapt_rate(self, kl: float) -> None:
        """With `target_kl`, an epoch's KL sets the next one's rate; a critic with a rate of its own keeps it."""
        if self.settings.target_kl > 0.0:
            group = self.optimizer.param_groups[0]
            group["lr"] = adapted_rate(group["lr"], kl, self.settings.target_kl)

    def _minibatches(self, samples: Samples) -> Iterator[_Minibatch]:
        """A random order of all rows, cut into minibatches; one gather for each array and epoch."""
        rows = torch.randperm(len(samples.action), generator=self.generator)
        observation = torch.from_numpy(samples.observation).index_select(0, rows)
        order = rows.numpy()
        rest = [np.take(array, order, axis=0) for array in samples[1:]]
        for start in range(0, len(order), self.batch_size):
            cut = slice(start, start + self.batch_size)
            yield _Minibatch(observation[cut], *(array[cut] for array in rest))

    def _step(self, batch: _Minibatch, measured: bool) -> tuple[float, float] | None:
        """One gradient step; if `measured`, L_pi and L_V before it."""
        c, log_std = self.settings, self.log_std
        advantage = normalised(batch.advantage) if c.normalise_advantages else batch.advantage
        precision = np.exp(-log_std)
        mean = self.mean_action(batch.observation)
        z = (batch.action - mean) * precision
        log_ratio = log_prob_of(z, log_std) - batch.log_prob
        ratio = np.exp(log_ratio)
        slope = surrogate_slope(ratio, advantage, c.clip)[:, None]

        # d log pi / d mu = z / sigma,  d log pi / d log sigma = z^2 - 1
        d_mean = slope * z * precision
        if self.policy.bound == "tanh":
            d_mean *= 1.0 - np.square(mean)
        self._actor.backward(torch.from_numpy(d_mean))
        d_log_std = (slope * (np.square(z) - 1.0)).sum(axis=0) - c.entropy_weight
        np.multiply(d_log_std, log_std == self._log_std, out=self._log_std_gradient)

        value = self._critic.forward(batch.observation)[:, 0].numpy()
        d_value = c.value_weight * value_slope(value, batch.value, batch.target, c.value_clip)
        self._critic.backward(torch.from_numpy(d_value[:, None].astype(np.float32)))
        self._clip_gradients()
        self.optimizer.step()
        if not measured:
            return None
        return (
            clipped_surrogate(ratio, advantage, c.clip),
            value_loss(value, batch.value, batch.target, c.value_clip),
        )

    def _clip_gradients(self) -> None:
        """Scale all gradients so that their common norm is at most `max_gradient_norm`."""
        limit = self.settings.max_gradient_norm
        gradients = [flat.grad for flat in self._flat if flat.grad is not None]
        norm = float(np.sqrt(sum(float(torch.dot(g, g)) for g in gradients)))
        if norm > limit > 0.0:
            for g in gradients:
                g.mul_(limit / (norm + 1e-6))


def new_critic(policy: GaussianActor, generator: torch.Generator) -> nn.Sequential:
    """A value network of the policy's shape, its last layer with gain 1."""
    sizes = (policy.observations, *policy.hidden, 1)
    return perceptron(sizes, generator, policy.activation, last_gain=1.0)


def normalised(advantage: FloatArray) -> FloatArray:
    """(A - mean) / std over the minibatch (B,), with the unbiased deviation."""
    count = len(advantage)
    if count < 2:
        return advantage
    centred: FloatArray = advantage - advantage.sum() / np.float32(count)
    centred /= np.sqrt(np.dot(centred, centred) / np.float32(count - 1)) + np.float32(1e-8)
    return centred
