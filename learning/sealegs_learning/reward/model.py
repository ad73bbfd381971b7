"""The reward: an ensemble of small networks r(o) over the state vector and/or camera frames of ONE time step.

Frames go through the convolutions of RL-VLM-F (channels 16/32/64/128, kernels 5/3/3/3, strides 3/2/2/2). All members
run as one batched product (grouped convolutions, stacked matrices).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from sealegs_contract.errors import LearningError
from sealegs_learning.networks import Normalizer, StackedPerceptron

CHANNELS, KERNELS, STRIDES = (16, 32, 64, 128), (5, 3, 3, 3), (3, 2, 2, 2)


class RewardInputs(NamedTuple):
    """State (..., B, D) float32 and frames (..., B, C, S, S) uint8; what the reward does not see is None."""

    state: Tensor | None
    frames: Tensor | None


class StackedConvolutions(nn.Module):
    """K convolutional encoders. Frames (B, C, S, S) shared or (K, B, C, S, S) one each, uint8 -> (K, B, F)."""

    def __init__(self, members: int, channels: int, image_size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.members = members
        self.image_size = image_size
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for (fan_in, fan_out), kernel in zip(pairwise((channels, *CHANNELS)), KERNELS, strict=True):
            bound = math.sqrt(6.0 / (fan_in * kernel * kernel))  # He, uniform: keeps the variance through ReLU
            shape = (members * fan_out, fan_in, kernel, kernel)
            self.weights.append(nn.Parameter((torch.rand(shape, generator=generator) * 2.0 - 1.0) * bound))
            self.biases.append(nn.Parameter(torch.zeros(members * fan_out)))
        size = image_size
        for kernel, stride in zip(KERNELS, STRIDES, strict=True):
            size = (size - kernel) // stride + 1
        if size < 1:
            raise LearningError(f"frames of {image_size} pixels vanish in the convolutions; use 64 or more")
        self.features = CHANNELS[-1] * size * size

    def forward(self, frames: Tensor) -> Tensor:
        """Features (K, B, F) of uint8 frames."""
        x = frames.to(torch.float32) * (2.0 / 255.0) - 1.0
        x = x.expand(self.members, *x.shape[-4:]).transpose(0, 1)
        batch = x.shape[0]
        x = x.reshape(batch, -1, *x.shape[-2:])
        for weight, bias, stride in zip(self.weights, self.biases, STRIDES, strict=True):
            x = torch.relu(conv2d(x, weight, bias, stride=stride, groups=self.members))
        return x.reshape(batch, self.members, self.features).transpose(0, 1)


class RewardEnsemble(nn.Module):
    """K rewards of a time step. A Bradley-Terry reward is defined up to an offset, so each member is standardised
    over the dataset that it was fitted on (`standardise`) before members are averaged or compared.
    """

    offset: Tensor
    scale: Tensor

    def __init__(
        self,
        members: int,
        hidden: tuple[int, ...],
        generator: torch.Generator,
        normalizer: Normalizer | None = None,
        frame_channels: int = 0,
        image_size: int = 64,
    ) -> None:
        super().__init__()
        if normalizer is None and not frame_channels:
            raise LearningError("a reward needs the state, frames, or both")
        self.members = members
        self.normalizer = normalizer
        self.encoder = StackedConvolutions(members, frame_channels, image_size, generator) if frame_channels else None
        features = (len(normalizer.mean) if normalizer else 0) + (self.encoder.features if self.encoder else 0)
        self.head = StackedPerceptron(members, (features, *hidden, 1), generator)
        self.register_buffer("offset", torch.zeros(members, 1))
        self.register_buffer("scale", torch.ones(members, 1))

    def forward(self, inputs: RewardInputs) -> Tensor:
        """Raw member rewards (K, B), in units of log-odds."""
        parts = []
        if self.normalizer is not None and inputs.state is not None:
            state = self.normalizer(inputs.state)
            parts.append(state.expand(self.members, *state.shape[-2:]))
        if self.encoder is not None and inputs.frames is not None:
            parts.append(self.encoder(inputs.frames))
        rewards: Tensor = self.head(torch.cat(parts, dim=-1)).squeeze(-1)
        return rewards

    def standardise(self, raw: Tensor) -> None:
        """Take the raw rewards (K, N) of a whole dataset as each member's zero mean and unit deviation."""
        wide = raw.to(torch.float64)
        self.offset.copy_(wide.mean(1, keepdim=True))
        self.scale.copy_(wide.std(1, unbiased=False, keepdim=True).clamp_min(1e-6))

    def mean_and_spread(self, inputs: RewardInputs) -> tuple[Tensor, Tensor]:
        """Mean (B,) and standard deviation (B,) over the standardised members."""
        return combine((self(inputs) - self.offset) / self.scale)


def combine(members: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (population) deviation over members (K, B)."""
    return members.mean(0), members.std(0, unbiased=False)
