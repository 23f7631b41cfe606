"""Transformer blocks of the base codec: neighborhood attention with per-quality residual scales.

SPEC section 1, "NSA block". Feature maps inside a run of blocks are *tokens*: ``[B, H, W, C]``,
channels last, so that every linear layer works in place on contiguous memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mpa_core.base.gains import Quality
from mpa_core.base.linear import TokenLinear
from mpa_core.base.routing import BlockRouter, StageRouter
from mpa_core.base.tinylic.attention import NeighborhoodAttention

RESIDUAL_SCALE = 0.2
"""Initial value of the residual scales gamma: blocks start near the identity, so that the linear
part of the autoencoder is learned first."""


class MLP(nn.Module):
    """A linear layer, GELU, and a linear layer."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = TokenLinear(dim, hidden)
        self.fc2 = TokenLinear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the output for ``tokens`` ``[..., dim]``, in the same shape."""
        out: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return out


class NSABlock(nn.Module):
    """The block ``x + |gamma1| attn(norm1(x))``, then ``x + |gamma2| mlp(norm2(x))``."""

    def __init__(
        self, dim: int, heads: int, window: int, mlp_ratio: float, levels: int, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = NeighborhoodAttention(dim, heads, window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, int(dim * mlp_ratio))
        self.gamma1 = nn.Parameter(torch.full((levels, dim), RESIDUAL_SCALE))
        self.gamma2 = nn.Parameter(torch.full((levels, dim), RESIDUAL_SCALE))
        self.drop_path = drop_path

    def main(self, tokens: Tensor) -> Tensor:
        """Compute the feed-forward part of the main path, on tokens ``[..., C]``."""
        out: Tensor = self.mlp(self.norm2(tokens))
        return out

    def forward(
        self, tokens: Tensor, quality: Quality, router: BlockRouter | None, index: int
    ) -> Tensor:
        """Return the output for ``tokens`` ``[B, H, W, C]``, in the same shape.

        ``router`` replaces the feed-forward part, given ``index``, the block's number in its stage;
        None is the main path.
        """
        attended = quality.pick(self.gamma1)[:, None, None, :] * self.attn(self.norm1(tokens))
        tokens = tokens + self._drop(attended)
        fed = self.main(tokens) if router is None else router(tokens, index, self.main)
        return tokens + self._drop(quality.pick(self.gamma2)[:, None, None, :] * fed)

    def _drop(self, residual: Tensor) -> Tensor:
        """Drop ``residual`` of some pictures in training: stochastic depth (Huang et al. 2016).

        Each picture of the batch loses this residual with probability ``drop_path``; kept ones are
        scaled so that the mean stays the same.

        The same as torchvision's ``stochastic_depth(..., "row")``: saving one line is not worth a
        dependency on torchvision, whose build has to match torch's.
        """
        if not (self.training and self.drop_path):
            return residual
        kept = residual.new_empty(len(residual), 1, 1, 1).bernoulli_(1.0 - self.drop_path)
        return residual * kept.div_(1.0 - self.drop_path)


class Stage(nn.Module):
    """A run of blocks with one outer residual (RNAB), on a map ``[B, C, H, W]``."""

    def __init__(self, blocks: Sequence[NSABlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def run_blocks(
        self, feature_map: Tensor, quality: Quality, router: StageRouter | None, stage: int
    ) -> Tensor:
        """Return the map after all blocks, in the same shape; ``router`` is asked for ``stage``."""
        if not len(self.blocks):
            return feature_map
        entered = feature_map.permute(0, 2, 3, 1).contiguous()
        block_router = router(stage, entered) if router is not None else None
        tokens = entered
        for index, block in enumerate(self.blocks):
            tokens = block(tokens, quality, block_router, index)
        return (tokens + entered).permute(0, 3, 1, 2)
