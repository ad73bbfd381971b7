"""Forward and backward of an MLP by hand: for networks this small, autograd costs more than the arithmetic.

    z_i = W_i h_{i-1} + b_i,  h_i = f(z_i),  y = z_L
    dL/dW_i = d_i^T h_{i-1},  dL/db_i = sum d_i,  d_{i-1} = (d_i W_i) f'(z_{i-1})

Products are torch's, so that its one thread holds; tanh is numpy's, whose vectorised version is ten times faster.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sealegs_contract.errors import LearningError

FloatArray = NDArray[np.float32]


class _Layer(NamedTuple):
    """A linear layer's arrays, shared with its parameters: weight (O, I), bias (O,) and their gradients."""

    weight: Tensor
    bias: Tensor
    weight_gradient: Tensor
    bias_gradient: Tensor


class _Buffers(NamedTuple):
    """For one batch size: layer outputs h_i, gradients d_i and scratch, each (B, O_i), and ones (B,)."""

    outputs: list[Tensor]
    gradients: list[Tensor]
    scratch: list[FloatArray]
    ones: Tensor


class Backprop:
    """Runs an `nn.Sequential` of Linear and Tanh or ReLU, the last layer linear, without autograd.

    The parameters need gradients in place (see `flatten_parameters`); `backward` overwrites them. What `forward` and
    `backward` return is overwritten by the next call with the same batch size.
    """

    def __init__(self, network: nn.Sequential) -> None:
        linear = [module for module in network if isinstance(module, nn.Linear)]
        between = [module for module in network if not isinstance(module, nn.Linear)]
        kinds = {type(module) for module in between}
        if len(kinds) > 1 or not kinds <= {nn.Tanh, nn.ReLU} or len(between) != len(linear) - 1:
            raise LearningError(f"expected Linear layers with Tanh or with ReLU between them, got {network}")
        self._tanh = kinds == {nn.Tanh}
        self._layers = [
            _Layer(m.weight.detach(), m.bias.detach(), gradient_of(m.weight), gradient_of(m.bias)) for m in linear
        ]
        self._buffers: dict[int, _Buffers] = {}
        self._input = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, O)."""
        self._input, h = x, x
        buffers = self._for_batch(len(x))
        last = len(self._layers) - 1
        for i, (layer, out) in enumerate(zip(self._layers, buffers.outputs, strict=True)):
            torch.addmm(layer.bias, h, layer.weight.t(), out=out)
            if i < last:
                array = out.numpy()
                if self._tanh:
                    np.tanh(array, out=array)
                else:
                    np.maximum(array, 0.0, out=array)
            h = out
        return h

    def backward(self, gradient: Tensor) -> None:
        """Parameter gradients for dL/dy (B, O) at the input of the last `forward`."""
        buffers = self._for_batch(len(gradient))
        d = gradient
        for i in range(len(self._layers) - 1, -1, -1):
            layer = self._layers[i]
            below = buffers.outputs[i - 1] if i else self._input
            torch.mm(d.t(), below, out=layer.weight_gradient)
            torch.mv(d.t(), buffers.ones, out=layer.bias_gradient)
            if i:
                d_below = torch.mm(d, layer.weight, out=buffers.gradients[i - 1])
                self._through_activation(d_below.numpy(), below.numpy(), buffers.scratch[i - 1])
                d = d_below

    def _through_activation(self, d: FloatArray, h: FloatArray, scratch: FloatArray) -> None:
        """d <- d f'(z) in place: 1 - h^2 for tanh, 1(h > 0) for ReLU."""
        if self._tanh:
            np.multiply(h, h, out=scratch)
            np.subtract(1.0, scratch, out=scratch)
            np.multiply(d, scratch, out=d)
        else:
            np.multiply(d, h > 0.0, out=d)

    def _for_batch(self, size: int) -> _Buffers:
        if size not in self._buffers:
            widths = [len(layer.bias) for layer in self._layers]
            self._buffers[size] = _Buffers(
                [torch.empty(size, width) for width in widths],
                [torch.empty(size, width) for width in widths[:-1]],
                [np.empty((size, width), np.float32) for width in widths[:-1]],
                torch.ones(size),
            )
        return self._buffers[size]


def gradient_of(parameter: Tensor) -> Tensor:
    """The gradient that lies in place; LearningError where there is none."""
    if parameter.grad is None:
        raise LearningError("the parameters have no gradients in place: flatten them first (flatten_parameters)")
    return parameter.grad
