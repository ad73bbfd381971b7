"""Forward and backward of an MLP by hand, on a CPU: for networks this small, autograd costs as much as the arithmetic.

    z_i = W_i h_{i-1} + b_i,  h_i = f(z_i),  y = z_L
    dL/dW_i = d_i^T h_{i-1},  dL/db_i = sum d_i,  d_{i-1} = (d_i W_i) f'(z_{i-1})

Products are torch's, so that its one thread holds; tanh is numpy's, whose vectorised version is ten times faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sealegs_contract.errors import LearningError
from sealegs_learning.networks import StackedPerceptron

Precision = Literal["float32", "bfloat16"]
"""Of the factors of backward's products; their sums are float32, and so is all of forward: losses and advantages are
exact, only gradients are rounded."""

_NARROW = 32  # oneDNN's packing and rounding cost more than they gain on products with an axis below this


class Layer(NamedTuple):
    """A linear layer: views of weight (O, I), its transpose, bias (O,), and where their gradients go."""

    weight: Tensor
    transposed: Tensor
    bias: Tensor
    weight_gradient: Tensor
    bias_gradient: Tensor


class _Buffers(NamedTuple):
    """For one batch size: layer outputs h_i (B, O_i), gradients d_i (B, I_i), and ones (B,)."""

    outputs: list[Tensor]
    gradients: list[Tensor]
    ones: Tensor


class Backprop:
    """Runs an MLP without autograd; the last layer is linear, the others end in ReLU or tanh.

    `backward` overwrites the parameters' gradients, which lie in place. What `forward` returns is overwritten by its
    next call with the same batch size.
    """

    def __init__(self, layers: Sequence[Layer], tanh: bool = False, precision: Precision = "float32") -> None:
        self._layers, self._tanh, self._rounds = list(layers), tanh, precision == "bfloat16"
        self._buffers: dict[int, _Buffers] = {}
        self._input = torch.empty(0)

    @classmethod
    def of(cls, network: nn.Sequential, precision: Precision = "float32") -> Backprop:
        """Of Linear layers with Tanh or with ReLU between them, that have gradients in place (`flatten_parameters`)."""
        tanh = has_tanh(network)
        layers = [
            Layer(m.weight.detach(), m.weight.detach().t(), m.bias.detach(), gradient_of(m.weight), gradient_of(m.bias))
            for m in network
            if isinstance(m, nn.Linear)
        ]
        return cls(layers, tanh, precision)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, O)."""
        self._input, h = x, x
        outputs = self._for_batch(len(x)).outputs
        last = len(self._layers) - 1
        for i, layer in enumerate(self._layers):
            h = outputs[i] = _linear(h, layer, outputs[i])
            if i < last:
                if self._tanh:
                    array = h.numpy()
                    np.tanh(array, out=array)
                else:
                    h.relu_()
        return h

    def backward(self, gradient: Tensor) -> None:
        """Parameter gradients for dL/dy (B, O) at the input of the last `forward`."""
        buffers, d = self._for_batch(len(gradient)), gradient
        for i in range(len(self._layers) - 1, -1, -1):
            layer, h = self._layers[i], buffers.outputs[i - 1] if i else self._input
            torch.mv(d.t(), buffers.ones, out=layer.bias_gradient)
            _product(d.t(), h, layer.weight_gradient, self._rounds)
            if i:
                d = _product(d, layer.weight, buffers.gradients[i], self._rounds)
                self._through_activation(d, h)

    def _through_activation(self, d: Tensor, h: Tensor) -> None:
        """d <- d f'(z) in place: 1 - h^2 for tanh, 1(h > 0) for ReLU."""
        if self._tanh:
            of_h, array = h.numpy(), d.numpy()
            np.multiply(array, 1.0 - of_h * of_h, out=array)
        else:
            torch.ops.aten.threshold_backward.grad_input(d, h, 0.0, grad_input=d)

    def _for_batch(self, size: int) -> _Buffers:
        found = self._buffers.get(size)
        if found is None:
            found = self._buffers[size] = _Buffers(
                [torch.empty(size, layer.weight.shape[0]) for layer in self._layers],
                [torch.empty(size, layer.weight.shape[1]) for layer in self._layers],
                torch.ones(size),
            )
        return found


def member_layers(stack: StackedPerceptron, k: int, trained: bool = True) -> list[Layer]:
    """Layers of network k of a stack. Without `trained` there is nowhere for gradients to go: forward only."""
    layers = []
    for weight, bias in zip(stack.weights, stack.biases, strict=True):
        w, b = weight.detach()[k], bias.detach()[k, 0]
        of_w, of_b = (gradient_of(weight)[k], gradient_of(bias)[k, 0]) if trained else (w, b)
        layers.append(Layer(w.t(), w, b, of_w.t(), of_b))
    return layers


def has_tanh(network: nn.Sequential) -> bool:
    """Whether tanh is between the linear layers, or ReLU. LearningError where it is anything else."""
    linear = [module for module in network if isinstance(module, nn.Linear)]
    between = [module for module in network if not isinstance(module, nn.Linear)]
    kinds = {type(module) for module in between}
    if len(kinds) > 1 or not kinds <= {nn.Tanh, nn.ReLU} or len(between) != len(linear) - 1:
        raise LearningError(f"expected Linear layers with Tanh or with ReLU between them, got {network}")
    return kinds == {nn.Tanh}


def gradient_of(parameter: Tensor) -> Tensor:
    """The gradient that lies in place; LearningError where there is none."""
    if parameter.grad is None:
        raise LearningError("the parameters have no gradients in place: flatten them first (flatten_parameters)")
    return parameter.grad


def _linear(x: Tensor, layer: Layer, out: Tensor) -> Tensor:
    """x W^T + b, (B, O)."""
    if min(*x.shape, len(layer.weight)) >= _NARROW and _onednn() is not None:
        y: Tensor = _onednn()(x, layer.weight, layer.bias, "none", [], "")
        return y
    return torch.addmm(layer.bias, x, layer.transposed, out=out)


def _product(a: Tensor, b: Tensor, out: Tensor, rounds: bool) -> Tensor:
    """a b into `out`, which is returned. With `rounds` oneDNN rounds both factors to bfloat16, where the CPU has it."""
    if min(*a.shape, *b.shape) < _NARROW:
        return torch.mm(a, b, out=out)
    if rounds:
        switch: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
        before = switch.fp32_precision
        switch.fp32_precision = "bf16"
        try:
            return torch.mm(a, b, out=out)
        finally:
            switch.fp32_precision = before
    if _onednn() is not None:
        return out.copy_(_onednn()(a, b.t(), None, "none", [], ""))
    return torch.mm(a, b, out=out)


@cache
def _onednn() -> Any:
    """oneDNN's x W^T + b, where it beats MKL, torch's default: MKL uses AVX-512 on Intel's CPUs only."""
    known = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not known or "AVX512" not in torch.backends.cpu.get_cpu_capability() or _made_by_intel():
        return None
    return getattr(getattr(torch.ops, "mkldnn", None), "_linear_pointwise", None)


def _made_by_intel() -> bool:
    """By the kernel's word; where it has none, no."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
