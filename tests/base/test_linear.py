from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from mpa_core.base.linear import TokenLinear


@pytest.fixture(params=[True, False], ids=["bias", "no bias"])
def layer(request):
    torch.manual_seed(0)
    return TokenLinear(12, 20, bias=request.param)


@pytest.mark.parametrize("shape", [(2, 5, 7, 12), (1, 1, 1, 12), (3, 40, 2, 12), (6, 12), (12,)])
def test_output_and_gradients_are_those_of_a_plain_layer(layer, shape):
    tokens = torch.randn(shape, requires_grad=True)
    inputs = (tokens, *layer.parameters())
    grad = torch.randn(*shape[:-1], 20)
    expected = F.linear(tokens, layer.weight, layer.bias)
    actual = layer(tokens)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        torch.autograd.grad(actual, inputs, grad),
        torch.autograd.grad(expected, inputs, grad),
        atol=1e-4,
        rtol=1e-5,
    )


def test_bits_do_not_depend_on_whether_gradients_are_wanted(layer):
    tokens = torch.randn(2, 6, 5, 12)
    with torch.no_grad():
        expected = layer(tokens)
    assert torch.equal(layer(tokens), expected)


@pytest.mark.parametrize("frozen", ["tokens", "weights"])
def test_only_what_is_asked_for_gets_a_gradient(layer, frozen):
    tokens = torch.randn(2, 3, 4, 12, requires_grad=frozen != "tokens")
    layer.requires_grad_(frozen != "weights")
    layer(tokens).square().sum().backward()
    assert (tokens.grad is None) == (frozen == "tokens")
    assert all((p.grad is None) == (frozen == "weights") for p in layer.parameters())


def test_gradients_have_gradients(layer):
    tokens = torch.randn(1, 3, 4, 12, requires_grad=True)

    def second(out):
        (first,) = torch.autograd.grad(out.pow(3).sum(), tokens, create_graph=True)
        return torch.autograd.grad(first.square().sum(), (tokens, layer.weight))

    expected = second(F.linear(tokens, layer.weight, layer.bias))
    torch.testing.assert_close(second(layer(tokens)), expected, atol=1e-2, rtol=1e-4)


def test_mixed_precision_reaches_the_parameters(layer):
    tokens = torch.randn(2, 3, 4, 12, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(tokens)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.dtype == torch.float32
    torch.testing.assert_close(tokens.grad[0, 0, 0], layer.weight.sum(0), atol=0.1, rtol=0.05)
