"""Operators of unequal skill, for logs as they come from a lab: few successes, good moments spread over many failures.

`MixedPolicy` draws an operator per episode and a mode per segment of some tenths of a second. In most states the good
action is a minority, and the mean action is no slow expert: imitation copies the crowd, while a learner with a reward
can pick the good segments out and join them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.robot import RobotProfile
from sealegs_sim.policies.scripted import ScriptedPolicy
from sealegs_sim.tasks import Task

FloatArray = NDArray[np.float64]
MODES = ("expert", "decoy", "reverse", "wander", "freeze")


class OrnsteinUhlenbeck:
    """Smooth noise x' = (1 - theta) x + sigma sqrt(2 theta - theta^2) N(0, 1): stationary deviation sigma, (J,)."""

    def __init__(self, size: int, sigma: float, theta: float) -> None:
        self._size, self._sigma, self._theta = size, sigma, theta
        self._value = np.zeros(size)

    def reset(self, rng: np.random.Generator) -> None:
        """Draw from the stationary distribution."""
        self._value = self._sigma * rng.standard_normal(self._size)

    def step(self, rng: np.random.Generator) -> FloatArray:
        """The next value (J,)."""
        kick = self._sigma * np.sqrt(2.0 * self._theta - self._theta**2)
        self._value = (1.0 - self._theta) * self._value + kick * rng.standard_normal(self._size)
        return self._value


class StillPolicy:
    """Does nothing: action zero."""

    def __init__(self, task: Task, robot: RobotProfile) -> None:
        self._size = len(robot.joints)

    def reset(self, rng: np.random.Generator) -> None:
        """Nothing to draw."""

    def act(self, observation: NDArray[np.floating]) -> FloatArray:
        """Zeros (J,)."""
        return np.zeros(self._size)


class RandomPolicy:
    """Smooth random motion, whatever the observation."""

    def __init__(self, task: Task, robot: RobotProfile, sigma: float = 0.5, theta: float = 0.08) -> None:
        self._noise = OrnsteinUhlenbeck(len(robot.joints), sigma, theta)
        self._rng = np.random.default_rng(0)

    def reset(self, rng: np.random.Generator) -> None:
        """Draw the noise anew."""
        self._rng = rng
        self._noise.reset(rng)

    def act(self, observation: NDArray[np.floating]) -> FloatArray:
        """Action (J,) in [-1, 1]."""
        return np.clip(self._noise.step(self._rng), -1.0, 1.0)


class NoisyPolicy:
    """The scripted policy with smooth noise on its actions."""

    def __init__(self, task: Task, robot: RobotProfile, sigma: float = 0.3, theta: float = 0.15) -> None:
        self._expert = ScriptedPolicy(task, robot)
        self._noise = OrnsteinUhlenbeck(len(robot.joints), sigma, theta)
        self._rng = np.random.default_rng(0)

    def reset(self, rng: np.random.Generator) -> None:
        """Draw the noise anew."""
        self._rng = rng
        self._noise.reset(rng)

    def act(self, observation: NDArray[np.floating]) -> FloatArray:
        """Action (J,) in [-1, 1]."""
        return np.clip(self._expert.act(observation) + self._noise.step(self._rng), -1.0, 1.0)


@dataclass(frozen=True)
class Operator:
    """Probability of each mode (in the order of MODES, normalised), and how much of the expert's speed is used."""

    name: str
    weight: float
    modes: tuple[float, float, float, float, float]
    speed: tuple[float, float] = (0.6, 1.0)


@dataclass(frozen=True)
class MixedConfig:
    """Who operates, for how long a mode lasts, how far decoys lie from the truth, and the noise on every action.

    Once progress exceeds `late_progress`, operators other than those named in `finishers` let go: their expert's
    probability is multiplied by `late_expert`, so that few episodes end in success.
    """

    operators: tuple[Operator, ...] = (
        Operator("competent", 0.06, (0.92, 0.02, 0.02, 0.02, 0.02), (0.8, 1.0)),
        Operator("hesitant", 0.42, (0.60, 0.05, 0.15, 0.05, 0.15), (0.3, 0.8)),
        Operator("mistaken", 0.30, (0.55, 0.30, 0.10, 0.05, 0.00), (0.3, 0.9)),
        Operator("careless", 0.22, (0.50, 0.10, 0.10, 0.30, 0.00), (0.3, 0.9)),
    )
    segment_s: tuple[float, float] = (0.3, 0.8)
    decoy_m: tuple[float, float] = (0.04, 0.12)
    noise_sigma: float = 0.15
    noise_theta: float = 0.2
    wander_sigma: float = 0.6
    late_progress: float = 0.55
    late_expert: float = 0.3
    finishers: tuple[str, ...] = ("competent",)


# Reaching takes half a second and the push itself hardly more, so there operators must change sooner and let go more
# surely for most episodes to fail.
MIXED_CONFIGS = {
    "reach": MixedConfig(segment_s=(0.1, 0.3), late_progress=0.4, late_expert=0.05),
    "push": MixedConfig(segment_s=(0.2, 0.5), late_expert=0.25),
}


class MixedPolicy:
    """One operator per episode, one mode per segment; `operator` and `mode` tell which, for metadata and tests."""

    def __init__(self, task: Task, robot: RobotProfile, config: MixedConfig | None = None) -> None:
        self.config = config or MIXED_CONFIGS.get(task.name, MixedConfig())
        self._expert = ScriptedPolicy(task, robot)
        self._task = task
        self._spec = task.observation_spec(robot)
        self._period_s = 1.0 / robot.control_rate_hz
        size = len(robot.joints)
        self._noise = OrnsteinUhlenbeck(size, self.config.noise_sigma, self.config.noise_theta)
        self._wander = OrnsteinUhlenbeck(size, self.config.wander_sigma, 0.08)
        self._objects = [f"{name}.object_position" for name in task.objects if name != "gripper"]
        self._rng = np.random.default_rng(0)
        self.operator = self.config.operators[0]
        self.mode = "expert"
        self._left = 0
        self._speed = 1.0
        self._offset = np.zeros(3)

    def reset(self, rng: np.random.Generator) -> None:
        """Draw the episode's operator."""
        self._rng = rng
        weights = np.array([operator.weight for operator in self.config.operators])
        self.operator = self.config.operators[int(rng.choice(len(weights), p=weights / weights.sum()))]
        self._noise.reset(rng)
        self._wander.reset(rng)
        self._left = 0

    def act(self, observation: NDArray[np.floating]) -> FloatArray:
        """Action (J,) in [-1, 1]."""
        if self._left == 0:
            self._draw_segment(observation)
        self._left -= 1
        action = self._speed * self._mode_action(observation) + self._noise.step(self._rng)
        return np.clip(action, -1.0, 1.0)

    def _draw_segment(self, observation: NDArray[np.floating]) -> None:
        rng, config = self._rng, self.config
        chances = np.array(self.operator.modes)
        if self.operator.name not in config.finishers:
            late = self._task.progress(self._spec.split(np.asarray(observation))) > config.late_progress
            chances[0] *= config.late_expert if late else 1.0
        self.mode = MODES[int(rng.choice(len(MODES), p=chances / chances.sum()))]
        self._left = max(1, round(rng.uniform(*config.segment_s) / self._period_s))
        self._speed = rng.uniform(*self.operator.speed)
        angle, far = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(*config.decoy_m)
        self._offset = far * np.array([np.cos(angle), np.sin(angle), rng.uniform(-0.2, 0.5)])
        self._wander.reset(rng)

    def _mode_action(self, observation: NDArray[np.floating]) -> FloatArray:
        match self.mode:
            case "expert":
                return self._expert.act(observation)
            case "wander":
                return self._wander.step(self._rng)
            case "freeze":
                return np.zeros(self._expert.size)
        fields = self._spec.split(np.asarray(observation, dtype=np.float64))
        if self.mode == "reverse":
            return -self._expert.act_on(fields)
        moved = {name: fields[name] + self._offset for name in self._objects}
        return self._expert.act_on(fields | moved)
