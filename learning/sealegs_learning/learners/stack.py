"""Forward and backward of K MLPs of one shape by hand, for speed: fewer and faster products than autograd's.

    h_0 = x,  h_i = relu(h_{i-1} W_i + b_i),  y = h_{L-1} W_L + b_L
    dL/dW_i = h_{i-1}^T d_i,  dL/db_i = sum d_i,  d_{i-1} = (d_i W_i^T) 1(h_{i-1} > 0)

On a CPU with AVX-512 the products go to oneDNN, which uses it on every make of CPU; MKL, torch's default for float32,
does so on Intel's only. On a GPU the K members are one batched product.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

Precision = Literal["float32", "bfloat16"]
"""Of the factors of backward's products; their sums are float32, and so is all of forward: losses and advantages are
exact, only gradients are rounded."""

_NARROW = 32  # oneDNN's packing costs more than it gains on products with an axis below this


def stacked_perceptron(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], precision: Precision = "float32"
) -> Tensor:
    """ReLU MLPs: x (B, D) for all or (K, B, D) one each, W_i (K, I, O), b_i (K, 1, O) -> (K, B, O). Differentiable."""
    y: Tensor = _Stack.apply(x, precision, len(weights), *weights, *biases)  # type: ignore[no-untyped-call]
    return y


def run_perceptron(network: nn.Sequential, x: Tensor, precision: Precision = "float32") -> Tensor:
    """What `network` makes of x (B, D), (B, O); by hand as above where it is Linear layers with ReLU between them."""
    layers = [module for module in network if isinstance(module, nn.Linear)]
    if sum(isinstance(module, nn.ReLU) for module in network) != len(network) - len(layers):
        y: Tensor = network(x)
        return y
    return stacked_perceptron(x, [m.weight.t()[None] for m in layers], [m.bias[None, None] for m in layers], precision)[
        0
    ]


class _Stack(torch.autograd.Function):
    """A run is a set of members that one loop over the layers serves: all on a GPU, one on a CPU, whose cache then
    still holds the run's layers when backward comes.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, precision: Precision, layers: int, *parameters: Tensor) -> Tensor:
        ctx.precision, ctx.layers, ctx.shared_input = precision, layers, x.dim() == 2
        x = x.expand(len(parameters[0]), *x.shape[-2:])
        kept, outputs = [], []
        for own, *rest in _runs(x, *parameters):
            hidden = _forward(own, rest[:layers], rest[layers:])
            outputs.append(hidden.pop())
            kept += hidden
        ctx.save_for_backward(*kept, *parameters[:layers])
        return outputs[0] if x.is_cuda else torch.stack(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        layers, saved = ctx.layers, ctx.saved_tensors
        weights, kept = saved[-layers:], saved[:-layers]
        of_weights = [torch.empty_like(w) for w in weights]
        of_biases = [w.new_empty(w.shape[0], 1, w.shape[2]) for w in weights]
        of_inputs = []
        for k, (d, *rest) in enumerate(_runs(gradients[0], *weights, *of_weights, *of_biases)):
            hidden, factors, slots = kept[k * layers : (k + 1) * layers], rest[:layers], rest[layers:]
            d = _backward(d, hidden, factors, slots[:layers], slots[layers:], ctx.precision)
            if ctx.needs_input_grad[0]:
                of_inputs.append(_product(d, factors[0].mT, precision=ctx.precision))
        of_x = None
        if of_inputs:
            of_x = of_inputs[0] if gradients[0].is_cuda else torch.stack(of_inputs)
            of_x = of_x.sum(0) if ctx.shared_input else of_x
        return of_x, None, None, *of_weights, *of_biases


def _runs(*stacks: Tensor) -> list[tuple[Tensor, ...]]:
    """Tensors (K, ...) as they are on a GPU, and member by member, without the first axis, on a CPU."""
    return [stacks] if stacks[0].is_cuda else list(zip(*(stack.unbind(0) for stack in stacks), strict=True))


def _forward(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> list[Tensor]:
    """h_0 .. h_{L-1} and y."""
    hidden = [x]
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True), start=1):
        hidden.append(_linear(hidden[-1], weight, bias, relu=i < len(weights)))
    return hidden


def _backward(
    d: Tensor,
    hidden: Sequence[Tensor],
    weights: Sequence[Tensor],
    of_weights: Sequence[Tensor],
    of_biases: Sequence[Tensor],
    precision: Precision,
) -> Tensor:
    """Fill the gradients from dL/dy; returns d_1, the gradient before the first layer's product."""
    for i in range(len(weights) - 1, -1, -1):
        torch.sum(d, dim=-2, keepdim=True, out=of_biases[i])
        factor = d.bfloat16() if precision == "bfloat16" else d  # rounded once for both products
        _product(hidden[i].mT, factor, precision, out=of_weights[i])
        if i:
            below = _product(factor, weights[i].mT, precision)
            d = torch.ops.aten.threshold_backward.grad_input(below, hidden[i], 0.0, grad_input=below)
    return d


def _linear(x: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
    """x W + b, (..., B, O), through the ReLU if asked."""
    if _onednn(x, weight):
        fused: Tensor = _fused()(x, weight.mT, bias.flatten(), "relu" if relu else "none", [], "")
        return fused
    y = torch.addmm(bias, x, weight) if x.dim() == 2 else torch.baddbmm(bias, x, weight)
    return torch.relu_(y) if relu else y


def _product(a: Tensor, b: Tensor, precision: Precision, out: Tensor | None = None) -> Tensor:
    """a b in float32, (..., M, N) and (..., N, O), the factors in `precision`; into `out` if given."""
    if precision == "bfloat16":
        y = a.bfloat16() @ b.bfloat16()
        return y.float() if out is None else out.copy_(y)
    if _onednn(a, b):
        y = _fused()(a, b.mT, None, "none", [], "")
        return y if out is None else out.copy_(y)
    return torch.matmul(a, b) if out is None else torch.matmul(a, b, out=out)


def _onednn(a: Tensor, b: Tensor) -> bool:
    """Whether oneDNN multiplies these two faster than torch's default."""
    wide = not a.is_cuda and a.dim() == 2 and a.dtype == torch.float32
    return wide and min(*a.shape, b.shape[1]) >= _NARROW and _fused() is not None


@cache
def _fused() -> Any:
    """oneDNN's x W^T + b with a pointwise function behind it; None where torch has none, or the CPU no AVX-512."""
    known = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not (known and "AVX512" in torch.backends.cpu.get_cpu_capability()):
        return None
    namespace = getattr(torch.ops, "mkldnn", None)
    return getattr(namespace, "_linear_pointwise", None)
