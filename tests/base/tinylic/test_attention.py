"""Neighborhood attention against a plain gather of every query's window."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mpa_core.base.tinylic.attention import (
    NeighborhoodAttention,
    _tiled_sdpa,
    neighborhood_attention,
)
from mpa_core.errors import ConfigError


def plain(module: NeighborhoodAttention, tokens: Tensor) -> Tensor:
    """SPEC section 1 word by word: each query with a gathered window of its own."""
    height, width = tokens.shape[1:3]
    window, heads = module.window, module.heads
    tokens = F.pad(tokens, (0, 0, 0, max(window - width, 0), 0, max(window - height, 0)))
    batch, rows, columns, dim = tokens.shape
    query, key, value = (
        module.qkv(tokens).view(batch, rows, columns, 3, heads, dim // heads).unbind(3)
    )

    def seen(length: int) -> tuple[Tensor, Tensor]:
        """[length, window]: positions of the keys, and their places in the bias table."""
        position = torch.arange(length)[:, None]
        keys = (position - window // 2).clamp(0, length - window) + torch.arange(window)
        return keys, keys - position + window - 1

    (down, down_bias), (along, along_bias) = seen(rows), seen(columns)
    sight = (slice(None), down[:, None, :, None], along[None, :, None, :])
    bias = module.rpb[:, down_bias[:, None, :, None], along_bias[None, :, None, :]]
    scores = torch.einsum("bijhd,bijvuhd->bhijvu", query, key[sight]) * (dim // heads) ** -0.5
    weights = (scores + bias).flatten(4).softmax(-1).view_as(scores)
    out = torch.einsum("bhijvu,bijvuhd->bijhd", weights, value[sight])
    return module.proj(out.reshape(batch, rows, columns, dim)[:, :height, :width])


def build(dim: int, heads: int, window: int, seed: int = 0) -> NeighborhoodAttention:
    torch.manual_seed(seed)
    module = NeighborhoodAttention(dim, heads, window)
    torch.nn.init.normal_(module.rpb)
    return module


SIZES = [
    (1, 1),
    (1, 9),
    (2, 3),
    (4, 30),
    (7, 7),
    (8, 8),
    (9, 17),
    (16, 16),
    (17, 18),
    (24, 32),
    (25, 23),
    (33, 19),
    (20, 64),
]


@pytest.mark.parametrize("window", [1, 3, 5, 7])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_equals_plain_reference(size: tuple[int, int], window: int) -> None:
    module = build(8, 2, window)
    tokens = torch.randn(2, *size, 8)
    weight = torch.randn(2, *size, 8)
    inputs = {"tokens": tokens.requires_grad_(), **dict(module.named_parameters())}
    expected = plain(module, tokens)
    expected_grads = torch.autograd.grad((expected * weight).sum(), list(inputs.values()))

    actual = module(tokens)
    grads = torch.autograd.grad((actual * weight).sum(), list(inputs.values()))
    assert actual.shape == (2, *size, 8)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
    for name, grad, wanted in zip(inputs, grads, expected_grads, strict=True):
        scale = max(1.0, wanted.abs().max().item())
        assert (grad - wanted).abs().max().item() < 1e-5 * scale, name
    with torch.no_grad():
        torch.testing.assert_close(module(tokens), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(2, 5), (5, 4), (18, 3)])
@pytest.mark.parametrize("window", [3, 5])
def test_gradcheck(size: tuple[int, int], window: int) -> None:
    module = build(4, 2, window).double()
    tokens = torch.randn(1, *size, 4, dtype=torch.double, requires_grad=True)
    parameters = dict(module.named_parameters())

    def run(tokens: Tensor, *values: Tensor) -> Tensor:
        state = dict(zip(parameters, values, strict=True))
        out: Tensor = torch.func.functional_call(module, state, (tokens,))
        return out

    assert torch.autograd.gradcheck(run, (tokens, *parameters.values()), fast_mode=True)


def test_second_derivatives() -> None:
    module = build(4, 2, 3).double()
    tokens = torch.randn(1, 4, 5, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(module, (tokens,), fast_mode=True)


@pytest.mark.parametrize("factor", [30.0, 300.0])
def test_large_scores_do_not_overflow(factor: float) -> None:
    """Scores in the hundreds and thousands: exponentials without the row maximum would fail."""
    module = build(8, 2, 7).double()
    tokens = torch.randn(2, 20, 11, 8, dtype=torch.double)
    tokens[0] *= factor  # and an image of ordinary scores beside it
    tokens.requires_grad_()
    inputs = (tokens, *module.parameters())
    wanted, actual = plain(module, tokens), module(tokens)
    torch.testing.assert_close(actual, wanted, atol=1e-9, rtol=1e-9)
    weight = torch.randn_like(wanted)
    for grad, expected in zip(
        torch.autograd.grad(actual, inputs, weight),
        torch.autograd.grad(wanted, inputs, weight),
        strict=True,
    ):
        torch.testing.assert_close(grad, expected, atol=1e-7, rtol=1e-7)


def test_dense_path_of_other_devices_agrees() -> None:
    """What a GPU runs, here on the CPU: the two ways are one mathematics."""
    torch.manual_seed(0)
    qkv = torch.randn(2, 27, 19, 48, requires_grad=True)
    rpb = torch.randn(2, 13, 13, requires_grad=True)
    weight = torch.randn(2, 27, 19, 16)
    ours, dense = neighborhood_attention(qkv, rpb), _tiled_sdpa(qkv, rpb)
    torch.testing.assert_close(ours, dense, atol=1e-5, rtol=0)
    for grad, expected in zip(
        torch.autograd.grad(ours, (qkv, rpb), weight),
        torch.autograd.grad(dense, (qkv, rpb), weight),
        strict=True,
    ):
        torch.testing.assert_close(grad, expected, atol=1e-4, rtol=1e-5)


def test_a_frozen_bias_changes_no_gradient_of_the_tokens() -> None:
    torch.manual_seed(0)
    qkv = torch.randn(1, 20, 19, 48, requires_grad=True)
    rpb = torch.randn(2, 13, 13, requires_grad=True)
    weight = torch.randn(1, 20, 19, 16)
    both = torch.autograd.grad(neighborhood_attention(qkv, rpb), (qkv, rpb), weight)
    (alone,) = torch.autograd.grad(neighborhood_attention(qkv, rpb.detach()), qkv, weight)
    assert torch.equal(alone, both[0])


@pytest.mark.parametrize("size", [(8, 8), (21, 34)])
def test_batch_and_repetition_change_nothing(size: tuple[int, int]) -> None:
    module = build(32, 2, 7)
    tokens = torch.randn(4, *size, 32)
    for enabled in (False, True):
        with torch.set_grad_enabled(enabled):
            whole = module(tokens)
            assert torch.equal(whole, module(tokens))
            for i in range(4):
                alone = module(tokens[i : i + 1])
                torch.testing.assert_close(alone, whole[i : i + 1], atol=1e-6, rtol=0)


def test_training_and_inference_agree() -> None:
    module = build(32, 2, 7)
    tokens = torch.randn(2, 27, 40, 32)
    with torch.no_grad():
        quiet = module(tokens)
    torch.testing.assert_close(module(tokens), quiet, atol=2e-6, rtol=0)


def test_follows_its_parameters() -> None:
    """Nothing cached outlives an optimizer step or a loaded checkpoint."""
    module = build(8, 2, 3)
    tokens = torch.randn(1, 20, 9, 8)
    with torch.no_grad():
        before = module(tokens)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    module(tokens).square().sum().backward()
    optimizer.step()
    with torch.no_grad():
        after = module(tokens)
        assert (after - before).abs().max() > 1e-3
        torch.testing.assert_close(after, plain(module, tokens), atol=1e-4, rtol=1e-4)
        module.load_state_dict(build(8, 2, 3).state_dict())
        assert torch.equal(module(tokens), before)


def test_strided_input_is_accepted() -> None:
    module = build(8, 2, 3)
    image = torch.randn(2, 8, 19, 6)
    expected = module(image.permute(0, 2, 3, 1).contiguous())
    torch.testing.assert_close(module(image.permute(0, 2, 3, 1)), expected, atol=1e-6, rtol=0)


def test_layout_of_the_parameters() -> None:
    named = NeighborhoodAttention(12, 3, 5).named_parameters()
    shapes = {name: tuple(value.shape) for name, value in named}
    assert shapes == {
        "qkv.weight": (36, 12),
        "qkv.bias": (36,),
        "rpb": (3, 9, 9),
        "proj.weight": (12, 12),
        "proj.bias": (12,),
    }


@pytest.mark.parametrize(
    ("dim", "heads", "window", "message"),
    [(10, 3, 7, "3 heads"), (8, 0, 7, "0 heads"), (8, 2, 4, "window is 4")],
)
def test_refuses(dim: int, heads: int, window: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NeighborhoodAttention(dim, heads, window)


def test_what_inference_keeps_serves_training():
    qkv = torch.randn(1, 9, 11, 3 * 32, dtype=torch.bfloat16)
    rpb = torch.randn(2, 9, 9)
    with torch.inference_mode():
        neighborhood_attention(qkv, rpb)
    qkv.requires_grad_(True)
    neighborhood_attention(qkv, rpb).float().sum().backward()
    assert qkv.grad is not None
