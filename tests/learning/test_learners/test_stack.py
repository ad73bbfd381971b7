import pytest
import torch
from torch import Tensor, nn

from sealegs_learning.learners import stack
from sealegs_learning.learners.stack import run_perceptron, stacked_perceptron

SIZES = ((40, 64), (64, 48), (48, 3))


def parameters(members: int) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(members, i, o, generator=generator) / i**0.5 for i, o in SIZES]
    biases = [torch.randn(members, 1, o, generator=generator) for _, o in SIZES]
    return [w.requires_grad_() for w in weights], [b.requires_grad_() for b in biases]


def plain(x: Tensor, weights: list[Tensor], biases: list[Tensor]) -> Tensor:
    """The same networks by autograd."""
    h = x.expand(len(weights[0]), *x.shape[-2:])
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True), start=1):
        h = torch.baddbmm(bias, h, weight)
        h = torch.relu(h) if i < len(weights) else h
    return h


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize(("members", "shared"), [(1, True), (3, True), (3, False)])
def test_values_and_gradients_are_autograds(members, shared, onednn, monkeypatch):
    if not onednn:
        monkeypatch.setattr(stack, "_fused", lambda: None)
    weights, biases = parameters(members)
    x = torch.randn(*((50, 40) if shared else (members, 50, 40)), generator=torch.Generator().manual_seed(1))
    x.requires_grad_()
    outputs = [network(x, weights, biases) for network in (stacked_perceptron, plain)]
    gradient = torch.randn(members, 50, 3, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(*outputs, atol=1e-4, rtol=1e-4)
    ours, theirs = (torch.autograd.grad(y, [x, *weights, *biases], gradient) for y in outputs)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-3, rtol=1e-3)


def test_the_branch_of_the_gpu_has_the_same_gradients(monkeypatch):
    # All members in one batched product, as on a GPU; here on the CPU.
    monkeypatch.setattr(stack, "_runs", lambda *stacks: [stacks])
    monkeypatch.setattr(stack.torch, "stack", lambda outputs: outputs[0])
    weights, biases = parameters(2)
    x = torch.randn(50, 40, generator=torch.Generator().manual_seed(1)).requires_grad_()
    outputs = [network(x, weights, biases) for network in (stacked_perceptron, plain)]
    torch.testing.assert_close(*outputs, atol=1e-4, rtol=1e-4)
    ours, theirs = (torch.autograd.grad(y.square().sum(), [x, *weights, *biases]) for y in outputs)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-2, rtol=1e-3)


def test_gradients_are_finite_differences():
    weights, biases = ([p.detach().double().requires_grad_() for p in group] for group in parameters(2))
    x = torch.randn(6, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    grads = torch.autograd.grad(stacked_perceptron(x, weights, biases).square().sum(), [*weights, *biases])
    generator = torch.Generator().manual_seed(4)
    for parameter, gradient in zip([*weights, *biases], grads, strict=True):
        direction = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
        losses = []
        for step in (1e-6, -2e-6):
            with torch.no_grad():
                parameter += step * direction
            losses.append(plain(x, weights, biases).square().sum().item())
        with torch.no_grad():
            parameter += 1e-6 * direction
        assert (losses[0] - losses[1]) / 2e-6 == pytest.approx((gradient * direction).sum().item(), rel=1e-5)


def test_bfloat16_rounds_gradients_and_nothing_else():
    weights, biases = parameters(2)
    x = torch.randn(50, 40, generator=torch.Generator().manual_seed(1))
    exact, rounded = stacked_perceptron(x, weights, biases), stacked_perceptron(x, weights, biases, "bfloat16")
    assert torch.equal(exact, rounded)
    ours, theirs = (torch.autograd.grad(y.square().sum(), weights) for y in (rounded, exact))
    for mine, other in zip(ours, theirs, strict=True):
        error = ((mine - other).norm() / other.norm()).item()
        assert 0.0 < error < 2.0**-6  # a few units of 2^-8, the rounding of one factor


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_a_plain_perceptron_keeps_its_values_and_gradients(activation):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(40, 64), activation(), nn.Linear(64, 48), activation(), nn.Linear(48, 3))
    x = torch.randn(50, 40)
    torch.testing.assert_close(run_perceptron(network, x), network(x), atol=1e-5, rtol=1e-4)
    ours, theirs = (
        torch.autograd.grad(y.square().sum(), list(network.parameters()))
        for y in (run_perceptron(network, x), network(x))
    )
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)
