"""The training objectives of the embedded judge, one function each."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def bradley_terry(scores: Tensor, progress: Tensor, scale: float, margin: float) -> Tensor:
    """Mean of -log sigmoid((s_i - s_j) / scale) over all pairs with p_i - p_j > margin.

    scores (B, K) for K sentences of the task, progress (B,). Zero when no pair is far enough apart.
    """
    better = (progress[:, None] - progress[None, :]) > margin
    if not bool(better.any()):
        return scores.sum() * 0.0
    difference = (scores[:, None, :] - scores[None, :, :])[better] / scale
    return functional.softplus(-difference).mean()


def progress_regression(scores: Tensor, progress: Tensor) -> Tensor:
    """Smooth L1 between scores (B, K) and progress (B,), quadratic below 0.1."""
    target = progress[:, None].expand_as(scores)
    return functional.smooth_l1_loss(scores, target, beta=0.1)


def position_regression(predicted: Tensor, target: Tensor) -> Tensor:
    """Smooth L1 between standardised positions (B, P), leaving out NaN targets (objects that a task does not have)."""
    known = torch.isfinite(target)
    return functional.smooth_l1_loss(predicted[known], target[known], beta=0.5)


def pair_likelihood(difference: Tensor, label: Tensor, temperature: float) -> Tensor:
    """Mean negative log-likelihood of labels (n,) in {0, 1} under sigmoid(difference / temperature)."""
    return functional.binary_cross_entropy_with_logits(difference / temperature, label)
