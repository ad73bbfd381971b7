"""Actions as bins: a categorical distribution for each element, trained by its log loss.

Log loss makes cloning's error independent of the horizon under weaker assumptions than squared error does
(arXiv 2407.15007), and several ways to act do not average into one that nobody took.
"""

from __future__ import annotations

import torch
from torch import Tensor


def centres(bins: int) -> Tensor:
    """Middle of each of the `bins` equal parts of [-1, 1], the outer ones moved to the ends: (bins,)."""
    return torch.linspace(-1.0, 1.0, bins)


def bin_of(action: Tensor, bins: int) -> Tensor:
    """Index of the nearest centre, (..., J) int64, of actions (..., J) in [-1, 1]."""
    return ((action.clamp(-1.0, 1.0) + 1.0) * (0.5 * (bins - 1))).round().to(torch.int64)


def log_likelihood(logits: Tensor, action: Tensor) -> Tensor:
    """sum_j log softmax(logits_j)[bin of a_j]: (B, J, bins), (B, J) -> (B,)."""
    index = bin_of(action, logits.shape[-1])
    return torch.log_softmax(logits, dim=-1).gather(-1, index[..., None]).squeeze(-1).sum(-1)


def likely_action(logits: Tensor, sharpness: float) -> Tensor:
    """sum_b softmax(sharpness * logits)_b centre_b: (B, J, bins) -> (B, J) in [-1, 1].

    Sharpness 1 is the mean, infinity the mode. A finite one keeps to the mode where there are several, and yet is
    continuous, so that rounding in an exported graph cannot make it jump to another bin.
    """
    weight = torch.softmax(sharpness * logits, dim=-1)
    return (weight * centres(logits.shape[-1]).to(logits)).sum(-1)
