"""K MLPs of one shape, forward and backward by hand: one after the other on a CPU, as batched products on a GPU.

The mathematics is `backprop`'s. On a CPU each network keeps its own buffers, which the cache holds from forward to
backward; a GPU is filled only by all networks at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from sealegs_contract.errors import LearningError
from sealegs_learning.learners.backprop import Backprop, Precision, gradient_of, has_tanh, member_layers
from sealegs_learning.networks import StackedPerceptron


class Perceptrons(Protocol):
    """`forward` gives (K, B, O) for (B, D), shared by all, or (K, B, D); `backward` fills the parameters' gradients.

    On a CPU what `forward` returns for K = 1 is overwritten by its next call with the same batch size.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (K, B, O)."""
        ...

    def backward(self, d: Tensor) -> None:
        """Gradients for dL/dy (K, B, O) at the input of the last `forward`."""
        ...


def stacked(stack: StackedPerceptron, precision: Precision = "float32", trained: bool = True) -> Perceptrons:
    """The networks of a stack; with `trained`, its gradients lie in place (`flatten_parameters`).

    LearningError on layer norm, whose backward is autograd's alone.
    """
    if stack.layer_norm:
        raise LearningError("a stack with layer norm runs under autograd only")
    weights, biases = list(stack.weights), list(stack.biases)
    if not weights[0].is_cuda:
        return OneByOne([Backprop(member_layers(stack, k, trained), False, precision) for k in range(stack.members)])
    return AtOnce(
        [w.detach() for w in weights],
        [b.detach() for b in biases],
        [gradient_of(w) for w in weights] if trained else [],
        [gradient_of(b) for b in biases] if trained else [],
        False,
        precision,
    )


def single(network: nn.Sequential, precision: Precision = "float32") -> Perceptrons:
    """One MLP as a stack of one."""
    if not next(network.parameters()).is_cuda:
        return OneByOne([Backprop.of(network, precision)])
    linear = [module for module in network if isinstance(module, nn.Linear)]
    return AtOnce(
        [m.weight.detach().t()[None] for m in linear],
        [m.bias.detach()[None, None] for m in linear],
        [gradient_of(m.weight).t()[None] for m in linear],
        [gradient_of(m.bias)[None, None] for m in linear],
        has_tanh(network),
        precision,
    )


class OneByOne:
    """On a CPU."""

    def __init__(self, members: Sequence[Backprop]) -> None:
        self._members = list(members)

    def forward(self, x: Tensor) -> Tensor:
        """As in `Perceptrons`."""
        if len(self._members) == 1:
            return self._members[0].forward(x if x.dim() == 2 else x[0])[None]
        inputs = [x] * len(self._members) if x.dim() == 2 else x.unbind(0)
        return torch.stack([member.forward(own) for member, own in zip(self._members, inputs, strict=True)])

    def backward(self, d: Tensor) -> None:
        """As in `Perceptrons`."""
        for member, own in zip(self._members, d.unbind(0), strict=True):
            member.backward(own)


class AtOnce:
    """On a GPU: weights (K, I, O), biases (K, 1, O) and their gradients, in place. Fit for a CUDA graph."""

    def __init__(
        self,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor],
        weight_gradients: Sequence[Tensor],
        bias_gradients: Sequence[Tensor],
        tanh: bool,
        precision: Precision,
    ) -> None:
        self._weights, self._biases = list(weights), list(biases)
        self._of_weights, self._of_biases = list(weight_gradients), list(bias_gradients)
        self._tanh, self._rounds = tanh, precision == "bfloat16"
        self._kept: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """As in `Perceptrons`."""
        y = x.expand(len(self._weights[0]), *x.shape[-2:])
        self._kept = []
        for weight, bias in zip(self._weights, self._biases, strict=True):
            if self._kept:
                y = torch.tanh(y) if self._tanh else torch.relu(y)
            self._kept.append(y)
            y = torch.baddbmm(bias, y, weight)
        return y

    def backward(self, d: Tensor) -> None:
        """As in `Perceptrons`."""
        for i in range(len(self._weights) - 1, -1, -1):
            h = self._kept[i]
            torch.sum(d, dim=-2, keepdim=True, out=self._of_biases[i])
            factor = d.bfloat16() if self._rounds else d
            self._of_weights[i].copy_(torch.matmul(h.to(factor.dtype).mT, factor))
            if i:
                d = torch.matmul(factor, self._weights[i].to(factor.dtype).mT).float()
                d = d * (1.0 - h.square()) if self._tanh else d * (h > 0.0)
