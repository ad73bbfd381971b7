"""Networks: a Gaussian policy that carries its normalisation, and stacks of MLPs that run as one batched product.

Small networks train fastest on one CPU thread (`torch.set_num_threads(1)`): two busy threads were six times slower.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from sealegs_contract.robot import RobotProfile
from sealegs_contract.spec import ActionSpec, ObservationSpec
from sealegs_contract.temporal import TemporalSpec

Activation = Literal["relu", "tanh"]
Bound = Literal["tanh", "clip"]
"""How an action comes into [-1, 1]: the mean is a tanh, or the mean is linear and clipped where it is applied."""

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
SCALE_FLOOR = 1e-3  # an element that hardly moved in the data must not be blown up by its tiny deviation


def orthogonal_(weight: Tensor, gain: float, generator: torch.Generator) -> Tensor:
    """Fill `weight` (..., rows, columns) with orthogonal matrices scaled by `gain`; seeded."""
    with torch.no_grad():
        for matrix in weight.reshape(-1, *weight.shape[-2:]):
            nn.init.orthogonal_(matrix, gain, generator=generator)
    return weight


def perceptron(
    sizes: tuple[int, ...],
    generator: torch.Generator,
    activation: Activation = "relu",
    last_gain: float = math.sqrt(2.0),
) -> nn.Sequential:
    """MLP through `sizes`, last layer linear; orthogonal weights with gain sqrt(2), zero biases."""
    layers: list[nn.Module] = []
    for number, (fan_in, fan_out) in enumerate(pairwise(sizes), start=1):
        linear = nn.Linear(fan_in, fan_out)
        orthogonal_(linear.weight, last_gain if number == len(sizes) - 1 else math.sqrt(2.0), generator)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU() if activation == "relu" else nn.Tanh()]
    return nn.Sequential(*layers[:-1])


class StackedPerceptron(nn.Module):
    """K MLPs of one shape. Input (B, D) shared by all or (K, B, D) one each; output (K, B, O).

    `layer_norm` normalises every hidden layer before its ReLU, without a scale or shift of its own.
    """

    def __init__(
        self, members: int, sizes: tuple[int, ...], generator: torch.Generator, layer_norm: bool = False
    ) -> None:
        super().__init__()
        self.members, self.layer_norm = members, layer_norm
        shapes = list(pairwise(sizes))
        self.weights = nn.ParameterList(
            nn.Parameter(orthogonal_(torch.empty(members, *shape), math.sqrt(2.0), generator)) for shape in shapes
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(members, 1, shape[1])) for shape in shapes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) or (K, B, D) -> (K, B, O)."""
        x = x.expand(self.members, *x.shape[-2:])
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if i < last:
                x = torch.relu(layer_norm(x, x.shape[-1:]) if self.layer_norm else x)
        return x


class Normalizer(nn.Module):
    """(x - mean) / std over the last axis, with statistics that travel in the state dict."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.to(torch.float32).clone())
        self.register_buffer("std", std.to(torch.float32).clamp_min(SCALE_FLOOR).clone())

    @classmethod
    def fit(cls, x: Tensor) -> Normalizer:
        """Statistics of the rows of `x` (N, D); sums in float64."""
        wide = x.to(torch.float64)
        return cls(wide.mean(0), wide.std(0, unbiased=False))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised `x` (..., D)."""
        return (x - self.mean) / self.std

    def inverse(self, normalised: Tensor) -> Tensor:
        """What `normalised` (..., D) was."""
        return normalised * self.std + self.mean

    def set(self, mean: Tensor, std: Tensor) -> None:
        """New statistics (D,), in place: all that shares this normaliser follows."""
        self.mean.copy_(mean)
        self.std.copy_(std.clamp_min(SCALE_FLOOR))


def gaussian_log_prob(mean: Tensor, log_std: Tensor, x: Tensor) -> Tensor:
    """log N(x; mean, diag exp(log_std)^2) summed over the last axis: (..., B, J), (..., J), (..., B, J) -> (..., B)."""
    return standard_log_prob((x - mean) * torch.exp(-log_std)[..., None, :], log_std)


def standard_log_prob(z: Tensor, log_std: Tensor) -> Tensor:
    """log N of z = (x - mean) / std, (..., B, J) and (..., J) -> (..., B)."""
    return -0.5 * z.square().sum(-1) - log_std.sum(-1)[..., None] - 0.5 * math.log(2.0 * math.pi) * z.shape[-1]


class GaussianActor(nn.Module):
    """Raw observation (B, D) -> normalised action (B, J) in [-1, 1]: the mean of a Gaussian, bounded.

    All that a learner needs of a policy; benchmark tasks, which have no robot, train it as it is. The Gaussian itself
    is not squashed (squashing hurts IQL) and its std does not depend on the state.
    """

    def __init__(
        self,
        observations: int,
        actions: int,
        hidden: tuple[int, ...],
        normalizer: Normalizer,
        generator: torch.Generator,
        task: str = "",
        activation: Activation = "relu",
        bound: Bound = "tanh",
    ) -> None:
        super().__init__()
        self.observations, self.actions, self.hidden = observations, actions, hidden
        self.activation, self.bound = activation, bound
        self.task = task
        self.metrics: Mapping[str, Any] = {}
        self.provenance: Mapping[str, Any] = {}
        self.normalizer = normalizer
        self.actor = perceptron((observations, *hidden, actions), generator, activation)
        self.log_std = nn.Parameter(torch.zeros(actions))

    def forward(self, observation: Tensor) -> Tensor:
        """Action (B, J) in [-1, 1] for a raw observation (B, D)."""
        mean = self.mean_action(self.normalizer(observation))
        return mean if self.bound == "tanh" else mean.clamp(-1.0, 1.0)

    def mean_action(self, normalised: Tensor) -> Tensor:
        """Mean of the Gaussian (B, J) at an observation (B, D) that is already normalised."""
        mean: Tensor = self.actor(normalised)
        return torch.tanh(mean) if self.bound == "tanh" else mean

    def log_prob(self, normalised: Tensor, action: Tensor) -> Tensor:
        """log pi(a|s), (B,), of actions (B, J) at normalised observations (B, D)."""
        return gaussian_log_prob(self.mean_action(normalised), self.log_std.clamp(LOG_STD_MIN, LOG_STD_MAX), action)


class Policy(GaussianActor):
    """A GaussianActor of a robot: it knows what its observations and actions mean, so it can be exported.

    `ActionSpec.to_output` turns the action into rad; the exported graph contains both steps. With a `temporal` spec
    its observation is the newest frames, history * D, and its action a chunk; learners see both flat.
    """

    def __init__(
        self,
        robot: RobotProfile,
        observation_spec: ObservationSpec,
        action_spec: ActionSpec,
        normalizer: Normalizer,
        hidden: tuple[int, ...],
        generator: torch.Generator,
        task: str = "",
        activation: Activation = "relu",
        bound: Bound = "tanh",
        temporal: TemporalSpec | None = None,
    ) -> None:
        extent = temporal or TemporalSpec()
        sizes = (extent.history * observation_spec.size, extent.chunk * action_spec.size)
        super().__init__(*sizes, hidden, normalizer, generator, task, activation, bound)
        self.temporal = extent
        self.robot = robot
        self.observation_spec = observation_spec
        self.action_spec = action_spec

    def forward(self, observation: Tensor) -> Tensor:
        """Action (B, J), or (B, chunk, J), in [-1, 1] for a raw observation (B, history * D)."""
        return self.shaped(super().forward(observation))

    def shaped(self, action: Tensor) -> Tensor:
        """(B, chunk * J) -> (B, chunk, J); without chunks as it is."""
        return action if self.temporal.chunk == 1 else action.view(-1, self.temporal.chunk, self.action_spec.size)
