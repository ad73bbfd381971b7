"""Each learner's own settings, by the names of its equations: frozen dataclasses, importable without torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Rule = tuple[str, bool, str]
"""Name of a setting, whether its value is in range, and the range in words."""


def finite(value: float | None) -> bool:
    """Whether a number is neither infinite nor nan; one that is not given is fine."""
    return value is None or math.isfinite(value)


def whole(units: int, block: int) -> int:
    """`units` rounded up to whole blocks, since what has begun (a rollout, a round) is finished."""
    return -(-units // block) * block


def hidden_rule(hidden: tuple[int, ...]) -> Rule:
    """No layer without units; none at all makes a linear network."""
    return "hidden", min(hidden, default=1) >= 1, "positive sizes"


@dataclass(frozen=True)
class IQLSettings:
    """Implicit Q-learning (arXiv 2110.06169); the paper's values for MuJoCo."""

    gamma: float = 0.99
    """Discount per control step."""
    tau: float = 0.7
    """Expectile of the value, in (0, 1); the paper's are from 0.5, the mean, upwards."""
    beta: float = 3.0
    """Inverse temperature of the advantage weights exp(beta A)."""
    advantage_cap: float = 100.0
    """Upper bound of an advantage weight."""
    polyak: float = 0.005
    """Rate of the target Q networks."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the factors in backward's products; losses, advantages and weights are always float32."""

    def rules(self) -> Iterator[Rule]:
        """What must hold of the values."""
        yield "gamma", 0.0 <= self.gamma < 1.0, "in [0, 1)"
        yield "tau", 0.0 < self.tau < 1.0, "in (0, 1)"
        yield "beta", self.beta >= 0.0, "at least 0"
        yield "advantage_cap", self.advantage_cap > 0.0, "positive"
        yield "polyak", 0.0 < self.polyak <= 1.0, "in (0, 1]"


@dataclass(frozen=True)
class BCSettings:
    """Behaviour cloning."""

    loss: Literal["gaussian", "mse", "bins"] = "gaussian"
    """-log pi(a|s) of a Gaussian; the squared error of its mean; or -log pi(a|s) of actions that fall into bins."""
    bins: int = 41
    """Values that each element of an action may take, with loss bins."""
    sharpness: float = 1.0
    """The action from bins is the mean under pi^sharpness: 1 is pi's mean, large values its mode. On noisy logs the
    mean is far better (drawer, 3 seeds: 0.87 against 0.45 at 4); a mode is for logs with several ways to act."""
    chunk: int = 1
    """Actions in one output, one for each of the coming control periods."""
    execute: int = 1
    """Actions of a chunk that are carried out before the policy is asked again."""

    def rules(self) -> Iterator[Rule]:
        """What must hold of the values."""
        yield "bins", 2 <= self.bins <= 1024, "from 2 to 1024"
        yield "sharpness", self.sharpness > 0.0, "positive"
        yield "chunk", 1 <= self.chunk <= 256, "from 1 to 256"
        yield "execute", 1 <= self.execute <= self.chunk, f"from 1 to the chunk's {self.chunk}"


@dataclass(frozen=True)
class PPOSettings:
    """Proximal policy optimisation (arXiv 1707.06347); the paper's values for MuJoCo. `batch_size` is its minibatch."""

    steps: int = 1_000_000
    """Environment steps in all; a run ends with the rollout that reaches them."""
    envs: int = 8
    """Simulations side by side."""
    horizon: int = 256
    """Steps of every simulation in a rollout."""
    epochs: int = 10
    """Passes over a rollout."""
    gamma: float = 0.99
    """Discount per control step."""
    lam: float = 0.95
    """Lambda of the generalised advantage estimator."""
    clip: float = 0.2
    """Half width of the range in which the likelihood ratio earns."""
    value_clip: float = 0.0
    """Half width of the range in which a value may move per rollout; 0 for no clipping."""
    value_weight: float = 0.5
    """Weight of the value loss."""
    entropy_weight: float = 0.0
    """Weight of the entropy bonus."""
    max_gradient_norm: float = 0.5
    """Common norm to which the gradients are clipped; 0 for none."""
    normalise_advantages: bool = True
    """Standardise the advantages of every minibatch."""
    normalise_rewards: bool = True
    """Divide rewards by the running deviation of their discounted sums."""
    target_kl: float = 0.0
    """KL per epoch that the learning rate adapts to, in steps of 1.5; 0 for a fixed rate. Usual: 0.01."""
    critic_learning_rate: float = 0.0
    """Adam's step size for the critic; 0 for the actor's."""
    initial_log_std: float = 0.0
    """Log deviation of the first actions, which lie in [-1, 1]."""
    finetune_log_std: float | None = None
    """The same where training starts from a checkpoint; the checkpoint's own by default."""
    critic_steps: int = 0
    """Environment steps at the start in which only the critic learns: a trained policy meets a critic that knows
    nothing yet."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Of the hidden units."""
    bound: Literal["clip", "tanh"] = "clip"
    """Actions are clipped where they are applied, or their mean is a tanh."""
    randomise: bool = True
    """Draw a new robot for every episode of a robot's task, from the profile's ranges or the default ones."""
    threads: int = 1
    """Threads of the physics."""

    def rules(self) -> Iterator[Rule]:
        """What must hold of the values."""
        for name in ("steps", "envs", "horizon", "epochs", "threads"):
            yield name, getattr(self, name) >= 1, "at least 1"
        yield "gamma", 0.0 <= self.gamma < 1.0, "in [0, 1)"
        yield "lam", 0.0 <= self.lam <= 1.0, "in [0, 1]"
        yield "clip", 0.0 < self.clip < 1.0, "in (0, 1)"
        for name in ("value_clip", "value_weight", "max_gradient_norm", "target_kl", "critic_learning_rate"):
            yield name, getattr(self, name) >= 0.0, "at least 0"
        yield "critic_steps", self.critic_steps >= 0, "at least 0"
        for name in ("entropy_weight", "initial_log_std", "finetune_log_std"):
            yield name, finite(getattr(self, name)), "finite"


@dataclass(frozen=True)
class FQESettings:
    """Fitted Q evaluation (arXiv 1903.08738) with bootstrapped episodes (arXiv 2102.03607)."""

    gamma: float = 0.99
    """Discount per control step."""
    updates: int = 6_000
    """Gradient updates; the step size decays to zero by a cosine."""
    batch_size: int = 256
    """Transitions per update."""
    hidden: tuple[int, ...] = (64, 64)
    """Units of the hidden layers of every Q network."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    polyak: float = 0.05
    """Rate of the target networks: ten times a learner's, since here the level of the values counts, which comes in
    only at the rate polyak (1 - gamma)."""
    members: int = 5
    """Resamples of the episodes, each with its own network; the interval is their spread."""

    def rules(self) -> Iterator[Rule]:
        """What must hold of the values."""
        yield "gamma", 0.0 <= self.gamma < 1.0, "in [0, 1)"
        yield "updates", self.updates >= 1, "at least 1"
        yield "batch_size", self.batch_size >= 1, "at least 1"
        yield hidden_rule(self.hidden)
        yield "learning_rate", self.learning_rate > 0.0, "positive"
        yield "polyak", 0.0 < self.polyak <= 1.0, "in (0, 1]"
        yield "members", self.members >= 2, "at least 2"


@dataclass(frozen=True)
class ModelSettings:
    """The learned model in which a policy walks before FQE values what remains (value expansion, arXiv 1803.00101)."""

    steps: int = 300
    """Steps of a walk; 0 for plain FQE, without a model."""
    updates: int = 3_000
    """Gradient updates of the models, one a resample; the step size decays to zero by a cosine."""
    batch_size: int = 256
    """Transitions per update."""
    hidden: tuple[int, ...] = (200, 200)
    """Units of the hidden layers of what predicts the next state."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    starts: int = 500
    """First states to walk from, at most."""

    def rules(self) -> Iterator[Rule]:
        """What must hold of the values."""
        yield "steps", self.steps >= 0, "at least 0"
        yield "updates", self.updates >= 1, "at least 1"
        yield "batch_size", self.batch_size >= 1, "at least 1"
        yield hidden_rule(self.hidden)
        yield "learning_rate", self.learning_rate > 0.0, "positive"
        yield "starts", self.starts >= 30, "at least 30"


@dataclass(frozen=True)
class UniO4Settings:
    """Offline improvement of a policy by PPO steps that FQE gates (Uni-O4, arXiv 2311.03351)."""

    clip: float = 0.25
    """Half width of the range in which the likelihood ratio to the first policy earns."""
    steps: int = 20
    """Gradient steps of a candidate; `updates` counts them, those of refused candidates too."""
    actions: int = 4
    """Actions drawn at each logged state; an advantage is over their mean."""
    pessimism: float = 1.0
    """Deviations of the Q ensemble that are taken off its mean."""
    deviations: float = 1.0
    """Bootstrap deviations by which a candidate's value must exceed the incumbent's to be accepted."""
    gate_updates: int = 1_000
    """Updates of FQE for incumbent and candidate in every round; both start from the incumbent's. Too few hide how
    much the members disagree."""
    log_std: float | None = -2.0
    """Log deviation of the actions that are tried; None for the checkpoint's."""
    fqe: FQESettings = field(default_factory=FQESettings)
    """FQE of the first policy, and of all candidates but for their updates."""

    def rules(self) -> Iterator[Rule]:
        """What must hold of the values."""
        yield "clip", 0.0 < self.clip < 1.0, "in (0, 1)"
        yield "steps", self.steps >= 1, "at least 1"
        yield "actions", self.actions >= 2, "at least 2"
        yield "pessimism", self.pessimism >= 0.0, "at least 0"
        yield "gate_updates", self.gate_updates >= 1, "at least 1"
        for name in ("deviations", "log_std"):
            yield name, finite(getattr(self, name)), "finite"

    def round_of(self, batch_size: int) -> tuple[int, int]:
        """Logged states of a round, and its gradient steps."""
        states = max(1, self.steps * batch_size // self.actions)
        return states, -(-states * self.actions // batch_size)


@dataclass(frozen=True)
class FinetuneSettings:
    """IQL goes on in simulation: it acts, keeps what happens beside the logs, and learns from both."""

    steps: int = 0
    """Environment steps; 0 learns from the logs alone."""
    envs: int = 8
    """Simulations side by side."""
    updates_per_step: float = 1.0
    """Gradient updates per environment step: the paper's one. A quarter is four times as fast, and learns less."""
    offline_share: float = 0.5
    """Share of every batch that comes from the logs."""
    noise: float = 0.1
    """Deviation of the noise on the policy's actions, which lie in [-1, 1]."""
    randomise: bool = True
    """Draw a new robot for every episode of a robot's task, from the profile's ranges or the default ones."""

    def rules(self) -> Iterator[Rule]:
        """What must hold of the values."""
        yield "steps", self.steps >= 0, "at least 0"
        yield "envs", self.envs >= 1, "at least 1"
        yield "updates_per_step", self.updates_per_step > 0.0, "positive"
        yield "offline_share", 0.0 <= self.offline_share < 1.0, "in [0, 1)"
        yield "noise", self.noise >= 0.0, "at least 0"
