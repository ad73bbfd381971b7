"""Scores of how far an observation is from the rows it was fitted on: 0 in their midst, larger further away.

A score is a module over features x (B, F). `SupportModel` puts features before it, so that it takes what a policy
takes: the observation of this period and that of the one before. All are exported to ONNX.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sealegs_learning.networks import SCALE_FLOOR, GaussianActor

TAIL = 0.999
"""Elements are compared in units of this quantile of their own size in the fitted rows."""
NOISE, CHANGE_NOISE = SCALE_FLOOR, 0.1 * SCALE_FLOOR
"""No element, and no change of one in a period, is taken for more exact than this, in its own unit (rad, rad/s, m).
What stands still in simulated logs may quiver by a little on a robot."""


class Pair(nn.Module):
    """The newest frame z and its change since the period before, each in deviations of the fitted rows: (B, 2D).

    What a sensor does wrong shows in the change first: a frozen joint has a velocity but does not move.
    """

    mean: Tensor
    std: Tensor
    change_std: Tensor

    def __init__(self, frames: Tensor, previous: Tensor) -> None:
        super().__init__()
        self.size = frames.shape[1]
        self.register_buffer("mean", frames.mean(0))
        self.register_buffer("std", frames.std(0).clamp_min(SCALE_FLOOR))
        self.register_buffer("change_std", (frames - previous).std(0).clamp_min(CHANGE_NOISE))

    @property
    def noise(self) -> Tensor:
        """What no feature is more exact than, (2D,): 1 for what never changed."""
        return torch.cat([NOISE / self.std, CHANGE_NOISE / self.change_std])

    def forward(self, observation: Tensor, previous: Tensor) -> Tensor:
        """(B, history * D) twice, of which the newest frames are used."""
        now, then = observation[:, -self.size :], previous[:, -self.size :]
        return torch.cat([(now - self.mean) / self.std, (now - then) / self.change_std], dim=1)


class Newest(Pair):
    """The newest frame alone: (B, D)."""

    def forward(self, observation: Tensor, previous: Tensor) -> Tensor:
        """(B, history * D) twice."""
        return (observation[:, -self.size :] - self.mean) / self.std


class PolicyFeatures(nn.Module):
    """The policy's last hidden layer: (B, units)."""

    def __init__(self, policy: GaussianActor) -> None:
        super().__init__()
        self.normalizer = policy.normalizer
        self.layers = nn.Sequential(*list(policy.actor)[:-1])

    def forward(self, observation: Tensor, previous: Tensor) -> Tensor:
        """(B, history * D) twice."""
        features: Tensor = self.layers(self.normalizer(observation))
        return features


class Range(nn.Module):
    """Furthest excess over the fitted rows' smallest and largest value, in units of that range (at least 1): max_i."""

    low: Tensor
    high: Tensor

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.register_buffer("low", x.amin(0))
        self.register_buffer("high", x.amax(0))

    def forward(self, x: Tensor) -> Tensor:
        """(B, F) -> (B,); below 0 inside."""
        width = (self.high - self.low).clamp_min(1.0)
        return (torch.maximum(self.low - x, x - self.high) / width).amax(1)


class Mahalanobis(nn.Module):
    """sqrt((x - m)^T C^-1 (x - m) / F); directions count as having at least `floor` of the largest variance."""

    mean: Tensor
    whitening: Tensor

    def __init__(self, x: Tensor, floor: float = 1e-4) -> None:
        super().__init__()
        wide = x.to(torch.float64)
        values, vectors = torch.linalg.eigh(torch.cov(wide.T))
        self.register_buffer("mean", x.mean(0))
        whitening = vectors / torch.sqrt(torch.clamp(values, min=floor * float(values.max()) + 1e-12))
        self.register_buffer("whitening", whitening.to(torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """(B, F) -> (B,)."""
        return ((x - self.mean) @ self.whitening).square().mean(1).sqrt()


class Neighbours(nn.Module):
    """Distance to the nearest of `count` fitted rows: min_p |x - p| / sqrt(F)."""

    rows: Tensor

    def __init__(self, x: Tensor, generator: torch.Generator, count: int = 1024) -> None:
        super().__init__()
        self.register_buffer("rows", x[torch.randperm(len(x), generator=generator)[:count]].clone())

    def forward(self, x: Tensor) -> Tensor:
        """(B, F) -> (B,)."""
        squared = x.square().sum(1, keepdim=True) - 2.0 * x @ self.rows.T + self.rows.square().sum(1)
        return (squared.amin(1).clamp_min(0.0) / x.shape[1]).sqrt()


class Linear(nn.Module):
    """Each element against its linear prediction from all the others; the worst of them.

    With Q = (C + diag noise^2)^-1 the standardised leave-one-out residual is r_i = [Q (x - m)]_i / sqrt(Q_ii).
    """

    mean: Tensor
    rows: Tensor

    def __init__(self, x: Tensor, noise: Tensor) -> None:
        super().__init__()
        wide = x.to(torch.float64)
        precision = torch.linalg.inv(torch.cov(wide.T) + torch.diag(noise.to(torch.float64).square()))
        rows = precision / torch.sqrt(torch.diagonal(precision))[:, None]
        tail = tails((wide - wide.mean(0)) @ rows.T)
        self.register_buffer("mean", x.mean(0))
        self.register_buffer("rows", (rows / tail[:, None]).to(torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """(B, F) -> (B,)."""
        return ((x - self.mean) @ self.rows.T).abs().amax(1)


class Worst(nn.Module):
    """max_j s_j(x) / scale_j: each score in units of what it reaches in episodes that it was not fitted on."""

    def __init__(self, scores: Sequence[nn.Module], scales: Sequence[float]) -> None:
        super().__init__()
        self.scores, self.scales = nn.ModuleList(scores), tuple(scales)

    def forward(self, x: Tensor) -> Tensor:
        """(B, F) -> (B,)."""
        parts = [score(x) / scale for score, scale in zip(self.scores, self.scales, strict=True)]
        return torch.stack(parts, dim=1).amax(1)


class SupportModel(nn.Module):
    """What becomes support.onnx: observation and the one before, (B, history * D) each -> score (B,)."""

    def __init__(self, features: nn.Module, score: nn.Module) -> None:
        super().__init__()
        self.features, self.score = features, score

    def forward(self, observation: Tensor, previous: Tensor) -> Tensor:
        """(B, history * D) twice -> (B,)."""
        found: Tensor = self.score(self.features(observation, previous))
        return found


def tails(residuals: Tensor) -> Tensor:
    """TAIL quantile of standardised |r_i| over the rows (N, F): (F,); at least 1, for what never changed."""
    size = np.quantile(residuals.abs().numpy(), TAIL, axis=0)
    return torch.from_numpy(np.maximum(size, 1.0)).to(residuals.dtype)


def run(model: nn.Module, episode: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores (T,) of an episode's observations (T, history * D); before its first period nothing changed."""
    rows = torch.from_numpy(np.ascontiguousarray(episode))
    with torch.no_grad():
        scores: Tensor = model(rows, torch.cat([rows[:1], rows[:-1]]))
    return scores.numpy().astype(np.float64)
