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
    """A linear layer's arrays, shared with its parameters: weight (O, I), its transpose, bias (O,), the gradients."""

    weight: Tensor
    transposed: Tensor
    bias: Tensor
    weight_gradient: Tensor
    bias_gradient: Tensor


class _Buffers(NamedTuple):
    """For one batch size: layer outputs h_i and gradients d_i (B, O_i), as tensors and as arrays, and ones (B,)."""

    outputs: list[Tensor]
    output_arrays: list[FloatArray]
    gradients: list[Tensor]
    gradient_arrays: list[FloatArray]
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
        self._layers = [_layer(module) for module in linear]
        self._buffers: dict[int, _Buffers] = {}
        self._input = torch.empty(0)

    def forward(self, x: Tensor) -> FloatArray:
        """(B, D) -> (B, O)."""
        self._input, h = x, x
        buffers = self._for_batch(len(x))
        last = len(self._layers) - 1
        for i, layer in enumerate(self._layers):
            h = torch.addmm(layer.bias, h, layer.transposed, out=buffers.outputs[i])
            if i < last:
                array = buffers.output_arrays[i]
                if self._tanh:
                    np.tanh(array, out=array)
                else:
                    np.maximum(array, 0.0, out=array)
        return buffers.output_arrays[last]

    def backward(self, gradient: FloatArray) -> None:
        """Parameter gradients for dL/dy (B, O) at the input of the last `forward`."""
        buffers = self._for_batch(len(gradient))
        d = torch.from_numpy(gradient)
        for i in range(len(self._layers) - 1, -1, -1):
            layer = self._layers[i]
            below = buffers.outputs[i - 1] if i else self._input
            d_t = d.t()
            torch.mm(d_t, below, out=layer.weight_gradient)
            torch.mv(d_t, buffers.ones, out=layer.bias_gradient)
            if i:
                d = torch.mm(d, layer.weight, out=buffers.gradients[i - 1])
                self._through_activation(
                    buffers.gradient_arrays[i - 1], buffers.output_arrays[i - 1], buffers.scratch[i - 1]
                )

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
            outputs = [torch.empty(size, width) for width in widths]
            gradients = [torch.empty(size, width) for width in widths[:-1]]
            self._buffers[size] = _Buffers(
                outputs,
                [tensor.numpy() for tensor in outputs],
                gradients,
                [tensor.numpy() for tensor in gradients],
                [np.empty((size, width), np.float32) for width in widths[:-1]],
                torch.ones(size),
            )
        return self._buffers[size]


def _layer(module: nn.Linear) -> _Layer:
    weight = module.weight.detach()
    return _Layer(weight, weight.t(), module.bias.detach(), gradient_of(module.weight), gradient_of(module.bias))


def gradient_of(parameter: Tensor) -> Tensor:
    """The gradient that lies in place; LearningError where there is none."""
    if parameter.grad is None:
        raise LearningError("the parameters have no gradients in place: flatten them first (flatten_parameters)")
    return parameter.grad
