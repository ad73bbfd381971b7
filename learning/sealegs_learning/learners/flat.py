"""Parameters of several modules in one flat buffer, so that Adam and Polyak averaging are a few vector operations.

Small networks spend much of an update on per-tensor overhead in Python; a view of one buffer costs none of it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def flatten_parameters(parameters: Iterable[nn.Parameter]) -> nn.Parameter:
    """One parameter (P,) that shares memory with `parameters`, values and gradients alike.

    The gradients are filled in place by backward, so clear them with `flat.grad.zero_()`, never by setting None.
    """
    owned = list(parameters)
    flat = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in owned]))
    flat.grad = torch.zeros_like(flat)
    start = 0
    for parameter in owned:
        end = start + parameter.numel()
        parameter.data = flat.detach()[start:end].view(parameter.shape)
        parameter.grad = flat.grad[start:end].view(parameter.shape)
        start = end
    return flat


def polyak_average_(target: Tensor, source: Tensor, rate: float | Tensor) -> None:
    """target <- (1 - rate) target + rate source, in place; (P,) and (P,), the rate one number or (P,)."""
    with torch.no_grad():
        target.lerp_(source, rate)
