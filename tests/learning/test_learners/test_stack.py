"""Networks by hand against autograd, finite differences, and each other."""

import pytest
import torch
from torch import Tensor, nn

from sealegs_contract.errors import LearningError
from sealegs_learning.learners import backprop
from sealegs_learning.learners.flat import flatten_parameters
from sealegs_learning.learners.stack import AtOnce, Perceptrons, single, stacked
from sealegs_learning.networks import StackedPerceptron

SIZES = (40, 64, 48, 3)


def make(members: int) -> tuple[StackedPerceptron, nn.Parameter]:
    """A stack with gradients in place, and its flat parameter."""
    stack = StackedPerceptron(members, SIZES, torch.Generator().manual_seed(0))
    for bias in stack.biases:
        bias.data.normal_(generator=torch.Generator().manual_seed(1))
    return stack, flatten_parameters(stack.parameters())


def at_once(stack: StackedPerceptron, precision: str = "float32") -> Perceptrons:
    """The branch of the GPU, here on the CPU."""
    weights, biases = list(stack.weights), list(stack.biases)
    return AtOnce(
        [w.detach() for w in weights], [b.detach() for b in biases], [w.grad for w in weights],
        [b.grad for b in biases], False, precision,
    )  # fmt: skip


def inputs(members: int, shared: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return (
        torch.randn(*((50, 40) if shared else (members, 50, 40)), generator=generator),
        torch.randn(members, 50, 3, generator=generator),
    )


def by_hand(running: Perceptrons, flat: nn.Parameter, x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs and gradients, which overwrite whatever lay there."""
    flat.grad.fill_(7.0)
    y = running.forward(x).clone()
    running.backward(slope)
    return y, flat.grad.clone()


def by_autograd(stack: StackedPerceptron, flat: nn.Parameter, x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    flat.grad.zero_()
    y = stack(x)
    y.backward(slope)
    return y.detach(), flat.grad.clone()


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("run", [stacked, at_once])
@pytest.mark.parametrize(("members", "shared"), [(1, True), (1, False), (3, True), (3, False)])
def test_values_and_gradients_are_autograds(members, shared, run, onednn, monkeypatch):
    product = torch.ops.mkldnn._linear_pointwise if onednn else None
    monkeypatch.setattr(backprop, "_onednn", lambda: product)
    stack, flat = make(members)
    x, slope = inputs(members, shared)
    ours, theirs = by_hand(run(stack), flat, x, slope), by_autograd(stack, flat, x, slope)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-3, rtol=1e-3)


def test_gradients_are_finite_differences():
    stack, flat = make(2)
    x, slope = inputs(2, True)
    _, gradient = by_hand(stacked(stack), flat, x, slope)
    wide, direction = (
        flat.detach().double(),
        torch.randn(len(flat), generator=torch.Generator().manual_seed(3)).double(),
    )
    stack.double()  # the same weights, in the precision that differences need
    values = []
    for step in (1e-6, -1e-6):
        moved, start = wide + step * direction, 0
        for parameter in stack.parameters():
            parameter.data = moved[start : start + parameter.numel()].view(parameter.shape)
            start += parameter.numel()
        values.append((stack(x.double()) * slope).sum().item())
    assert (values[0] - values[1]) / 2e-6 == pytest.approx((gradient.double() @ direction).item(), rel=1e-4)


@pytest.mark.parametrize("run", [stacked, at_once])
def test_bfloat16_rounds_gradients_and_nothing_else(run):
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN has no bfloat16 on this CPU")
    stack, flat = make(2)
    x, slope = inputs(2, True)
    (y, exact), (same, rounded) = (by_hand(run(stack, p), flat, x, slope) for p in ("float32", "bfloat16"))
    assert torch.equal(y, same)
    error = ((rounded - exact).norm() / exact.norm()).item()
    assert 0.0 < error < 2.0**-6  # a few units of 2^-8, the rounding of one factor
    assert torch.backends.mkldnn.matmul.fp32_precision != "bf16"  # all other products stay exact


def test_a_stack_that_is_not_trained_needs_no_gradients():
    stack = StackedPerceptron(2, SIZES, torch.Generator()).requires_grad_(False)
    x, _ = inputs(2, True)
    torch.testing.assert_close(stacked(stack, trained=False).forward(x), stack(x), atol=1e-5, rtol=1e-4)


def test_layer_norm_is_refused():
    with pytest.raises(LearningError, match="autograd only"):
        stacked(StackedPerceptron(2, SIZES, torch.Generator(), layer_norm=True), trained=False)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_a_plain_perceptron_is_a_stack_of_one(activation):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(40, 64), activation(), nn.Linear(64, 48), activation(), nn.Linear(48, 3))
    flat = flatten_parameters(network.parameters())
    x, slope = inputs(1, True)
    y, gradient = by_hand(single(network), flat, x, slope)
    flat.grad.zero_()
    expected = network(x)
    expected.backward(slope[0])
    torch.testing.assert_close(y[0], expected.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(gradient, flat.grad, atol=1e-4, rtol=1e-4)
