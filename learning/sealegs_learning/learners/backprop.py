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
from numpy.typing import NDArray
from torch import Tensor, nn

from sealegs_contract.errors import LearningError
from sealegs_learning.networks import StackedPerceptron

FloatArray = NDArray[np.float32]
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
    """For one batch size: layer outputs h_i (B, O_i), gradients d_i (B, I_i), ones (B,), which layers are wide, and
    for numpy's tanh the same memory as arrays, with some to spare."""

    outputs: list[Tensor]
    gradients: list[Tensor]
    ones: Tensor
    wide: list[bool]
    output_arrays: list[FloatArray]
    gradient_arrays: list[FloatArray]
    scratch: list[FloatArray]


class Backprop:
    """Runs an MLP without autograd; the last layer is linear, the others end in ReLU or tanh.

    `backward` overwrites the parameters' gradients, which lie in place. What `forward` returns is overwritten by its
    next call with the same batch size.
    """

    def __init__(self, layers: Sequence[Layer], tanh: bool = False, precision: Precision = "float32") -> None:
        self._layers, self._tanh = list(layers), tanh
        self._onednn = _onednn()
        self._product = _rounded_product if precision == "bfloat16" else _onednn_product if self._onednn else None
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
        buffers = self._for_batch(len(x))
        outputs, wide, arrays = buffers.outputs, buffers.wide, buffers.output_arrays
        last = len(self._layers) - 1
        for i, layer in enumerate(self._layers):
            if wide[i] and self._onednn:
                h = outputs[i] = self._onednn(h, layer.weight, layer.bias, "none", [], "")
                arrays[i] = h.numpy()
            else:
                h = torch.addmm(layer.bias, h, layer.transposed, out=outputs[i])
            if i < last:
                if self._tanh:
                    np.tanh(arrays[i], out=arrays[i])
                else:
                    h.relu_()
        return h

    def backward(self, gradient: Tensor) -> None:
        """Parameter gradients for dL/dy (B, O) at the input of the last `forward`."""
        buffers, d = self._for_batch(len(gradient)), gradient
        for i in range(len(self._layers) - 1, -1, -1):
            layer, d_t = self._layers[i], d.t()
            h = buffers.outputs[i - 1] if i else self._input
            product = self._product if self._product and buffers.wide[i] else _plain_product
            torch.mv(d_t, buffers.ones, out=layer.bias_gradient)
            product(d_t, h, layer.weight_gradient)
            if i:
                d = product(d, layer.weight, buffers.gradients[i])
                self._through_activation(buffers, i)

    def _through_activation(self, buffers: _Buffers, i: int) -> None:
        """d <- d f'(z) in place, below layer i: 1 - h^2 for tanh, 1(h > 0) for ReLU."""
        if self._tanh:
            d, h, slope = buffers.gradient_arrays[i], buffers.output_arrays[i - 1], buffers.scratch[i]
            np.multiply(h, h, out=slope)
            np.subtract(1.0, slope, out=slope)
            np.multiply(d, slope, out=d)
        else:
            below, kept = buffers.gradients[i], buffers.outputs[i - 1]
            torch.ops.aten.threshold_backward.grad_input(below, kept, 0.0, grad_input=below)

    def _for_batch(self, size: int) -> _Buffers:
        found = self._buffers.get(size)
        if found is None:
            outputs = [torch.empty(size, layer.weight.shape[0]) for layer in self._layers]
            gradients = [torch.empty(size, layer.weight.shape[1]) for layer in self._layers]
            found = self._buffers[size] = _Buffers(
                outputs,
                gradients,
                torch.ones(size),
                [min(size, *layer.weight.shape) >= _NARROW for layer in self._layers],
                [output.numpy() for output in outputs],
                [gradient.numpy() for gradient in gradients],
                [np.empty_like(gradient.numpy()) for gradient in gradients],
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


def _plain_product(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """a b into `out`, which is returned."""
    return torch.mm(a, b, out=out)


def _onednn_product(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """The same by oneDNN."""
    return out.copy_(_onednn()(a, b.t(), None, "none", [], ""))


def _rounded_product(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """The same of factors rounded to bfloat16 inside oneDNN's product, where the CPU has it; elsewhere exact."""
    switch: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = switch.fp32_precision
    switch.fp32_precision = "bf16"
    try:
        return torch.mm(a, b, out=out)
    finally:
        switch.fp32_precision = before


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
