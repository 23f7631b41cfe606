"""Transformer blocks in reproducible arithmetic: layers of :mod:`mpa_core.base.tinylic.blocks`.

Tokens are float64 ``[B, H, W, C]``. Each layer rounds what it takes to its own format; the
residual stream itself is not rounded, since adding to it is elementwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mpa_core.base.tinylic.attention import NeighborhoodAttention
from mpa_core.base.tinylic.blocks import NSABlock
from mpa_core.base.tinylic.exact.fixed import EXACT_BITS, FixedFormat, FixedLinear
from mpa_core.base.tinylic.exact.rows import QualityRows
from mpa_core.base.tinylic.exact.tables import exp_of_minus, gelu
from mpa_core.errors import CheckpointError

FormatOf = Callable[[str], FixedFormat]
"""Returns the format of the layer with this name."""
WEIGHT_DIGITS = 16
"""Binary digits of attention weights after the point."""


def norm_fits(channels: int, form: FixedFormat) -> bool:
    """Return whether the sum of squares of ``channels`` centred inputs is exact.

    A centred input has one digit more than an input, and its square twice as many.
    """
    return math.ceil(math.log2(channels)) + 2 * (form.digits + 1) <= EXACT_BITS


def attention_fits(head_width: int, window: int, form: FixedFormat) -> bool:
    """Return whether scores and weighted sums of an attention are exact.

    A score is a sum of ``head_width`` products, a weighted sum one of ``window**2`` products.
    """
    scores = math.ceil(math.log2(head_width)) + 2 * form.digits
    summed = math.ceil(math.log2(window**2)) + WEIGHT_DIGITS + form.digits
    return max(scores, summed) <= EXACT_BITS


def _require(fits: bool, name: str, form: FixedFormat) -> FixedFormat:
    form.check(name)
    if not fits:
        raise CheckpointError(
            f"exact profile: format {tuple(form)} of {name} has too many digits for exact sums; "
            "convert the base again with mpa exact"
        )
    return form


class ExactNorm:
    """Layer normalisation over the channels."""

    def __init__(self, norm: nn.LayerNorm, name: str, form_of: FormatOf) -> None:
        channels = norm.normalized_shape[0]
        self.form = _require(norm_fits(channels, form_of(name)), name, form_of(name))
        self.weight, self.bias = norm.weight.detach().double(), norm.bias.detach().double()
        # A tensor: some devices divide by a plain number as a product with its inverse.
        self.count = torch.tensor([float(channels)], dtype=torch.float64, device=self.weight.device)
        self.eps = norm.eps * 4.0**self.form.fraction

    def __call__(self, tokens: Tensor) -> Tensor:
        """Normalise ``[..., C]``; the result has the same shape."""
        values = self.form.rounded(tokens)
        centred = values.sub_((values.sum(-1, keepdim=True) / self.count).round_())
        variance = (centred * centred).sum(-1, keepdim=True) / self.count
        return centred.div_(variance.add_(self.eps).sqrt_()).mul_(self.weight).add_(self.bias)


class TokenProduct:
    """A linear layer on tokens."""

    def __init__(self, layer: nn.Linear, name: str, form_of: FormatOf) -> None:
        self.linear = FixedLinear(layer.weight.detach(), layer.bias.detach(), form_of(name), name)

    def __call__(self, tokens: Tensor) -> Tensor:
        """Apply the layer: ``[B, H, W, C]`` to ``[B, H, W, O]``."""
        size = tokens.shape[1:3]
        return self.linear(tokens.flatten(1, 2).mT).mT.unflatten(1, size)


class ExactAttention:
    """Neighborhood attention (:class:`~mpa_core.base.tinylic.attention.NeighborhoodAttention`)."""

    def __init__(self, attention: NeighborhoodAttention, name: str, form_of: FormatOf) -> None:
        self.heads, self.window = attention.heads, attention.window
        head_width = attention.dim // attention.heads
        form = form_of(name)
        self.form = _require(attention_fits(head_width, self.window, form), name, form)
        self.qkv = TokenProduct(attention.qkv, f"{name}.qkv", form_of)
        self.proj = TokenProduct(attention.proj, f"{name}.proj", form_of)
        self.bias = attention.rpb.detach().double()
        # sqrt and division are correctly rounded; a power would not be.
        self.score_scale = 4.0**-form.fraction / math.sqrt(head_width)
        self.value_scale = 2.0 ** -(form.fraction + WEIGHT_DIGITS)

    def __call__(self, tokens: Tensor) -> Tensor:
        """Attend: ``[B, H, W, C]`` to ``[B, H, W, C]``."""
        height, width = tokens.shape[1:3]
        below, right = max(self.window - height, 0), max(self.window - width, 0)
        if below or right:
            tokens = F.pad(tokens, (0, 0, 0, right, 0, below))
        parts = self.form.rounded(self.qkv(tokens)).unflatten(3, (3, self.heads, -1))
        query, key, value = parts.unbind(3)  # [B, H, W, heads, d]
        rows, down = self._neighbours(query.shape[1], query.device)
        columns, along = self._neighbours(query.shape[2], query.device)
        places = (slice(None), rows[:, None, :, None], columns[None, :, None, :])
        # [B, H, W, k, k, heads, d]: windows of maps this small are gathered whole.
        scores = (query[:, :, :, None, None] * key[places]).sum(-1).mul_(self.score_scale)
        bias = self.bias[:, down[:, None, :, None], along[None, :, None, :]]
        scores = scores.add_(bias.permute(1, 2, 3, 4, 0)).flatten(3, 4)  # [B, H, W, k * k, heads]
        weights = exp_of_minus(scores.amax(3, keepdim=True) - scores)
        weights = (weights / weights.sum(3, keepdim=True)).mul_(2.0**WEIGHT_DIGITS).round_()
        attended = (weights[..., None] * value[places].flatten(3, 4)).sum(3)
        out = self.proj(attended.mul_(self.value_scale).flatten(3))
        return out[:, :height, :width]

    def _neighbours(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the positions that each query sees along an axis, and their rows of the bias.

        Both are ``[L, k]``.
        """
        queries = torch.arange(length, device=device)[:, None]
        first = (queries - self.window // 2).clamp(0, length - self.window)
        keys = first + torch.arange(self.window, device=device)
        return keys, keys - queries + self.window - 1


class ExactBlock:
    """The block ``x + |gamma1| attn(norm1(x))``, then ``x + |gamma2| mlp(norm2(x))``."""

    def __init__(self, block: NSABlock, name: str, form_of: FormatOf) -> None:
        self.norm1 = ExactNorm(block.norm1, f"{name}.norm1", form_of)
        self.attn = ExactAttention(block.attn, f"{name}.attn", form_of)
        self.norm2 = ExactNorm(block.norm2, f"{name}.norm2", form_of)
        self.fc1 = TokenProduct(block.mlp.fc1, f"{name}.mlp.fc1", form_of)
        self.fc2 = TokenProduct(block.mlp.fc2, f"{name}.mlp.fc2", form_of)
        self.gamma1, self.gamma2 = QualityRows(block.gamma1), QualityRows(block.gamma2)

    def __call__(self, tokens: Tensor, qualities: list[float]) -> Tensor:
        """Apply the block: ``[B, H, W, C]`` to ``[B, H, W, C]``."""
        attended = self.attn(self.norm1(tokens))
        tokens = tokens + attended.mul_(self.gamma1.pick(qualities)[:, None, None, :])
        fed = self.fc2(gelu(self.fc1(self.norm2(tokens))))
        return tokens.add_(fed.mul_(self.gamma2.pick(qualities)[:, None, None, :]))
