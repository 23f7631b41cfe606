"""Neighborhood attention on NHWC tokens, without the natten package (SPEC section 1).

The map is cut into tiles of queries; each tile sees one dense, haloed block of keys, and what a
query must not see is masked by a bias of -inf (:mod:`mpa_core.base.tiling`). So the whole layer is
a few batched matrix products instead of a gather of every window.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mpa_core.base.tiling import TileRun, plan_axis
from mpa_core.errors import ConfigError

_TILE = 8
_WHOLE = 16
"""Up to this length an axis is one tile: a dense product is as cheap as a haloed one."""


class NeighborhoodAttention(nn.Module):
    """Self-attention of every token to the ``window`` x ``window`` tokens around it.

    The window is shifted inward at the borders and stays whole, as in NATTEN; a map smaller than
    the window is padded with zero tokens at the bottom and the right, and the result cropped.

    Args:
        dim: channels C of the tokens.
        heads: number of heads; divides ``dim``.
        window: side of the window in tokens; odd.

    Parameters: ``qkv`` Linear(C, 3C), outputs ordered [3, heads, C / heads]; ``rpb``
    [heads, 2 * window - 1, 2 * window - 1], the bias of a key at (key - query + window - 1) per
    axis; ``proj`` Linear(C, C).

    Raises:
        ConfigError: ``dim`` is no multiple of ``heads``, or ``window`` is even or below 1.
    """

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ConfigError(f"{dim} channels do not split into {heads} heads; give a divisor")
        if window < 1 or window % 2 == 0:
            raise ConfigError(f"window is {window}; an odd number of at least 1 is needed")
        self.dim = dim
        self.heads = heads
        self.window = window
        self.qkv = nn.Linear(dim, 3 * dim)
        self.rpb = nn.Parameter(torch.empty(heads, 2 * window - 1, 2 * window - 1))
        self.proj = nn.Linear(dim, dim)
        nn.init.trunc_normal_(self.rpb, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tensor[B, H, W, C] -> Tensor[B, H, W, C], any H and W from 1."""
        height, width = tokens.shape[1:3]
        below, right = max(self.window - height, 0), max(self.window - width, 0)
        if below or right:
            tokens = F.pad(tokens, (0, 0, 0, right, 0, below))
        attended = neighborhood_attention(self.qkv(tokens), self.rpb)
        if below or right:
            attended = attended[:, :height, :width]
        out: Tensor = self.proj(attended)
        return out

    def extra_repr(self) -> str:
        return f"dim={self.dim}, heads={self.heads}, window={self.window}"


def neighborhood_attention(qkv: Tensor, rpb: Tensor) -> Tensor:
    """Tensor[B, H, W, 3C] and rpb [heads, 2k-1, 2k-1] -> Tensor[B, H, W, C]; H, W >= k."""
    return _tiled_sdpa(qkv, rpb)


def _tiled_sdpa(qkv: Tensor, rpb: Tensor) -> Tensor:
    """One masked dense attention per class of tiles; differentiable any number of times."""
    batch, height, width, triple = qkv.shape
    heads, window = rpb.shape[0], (rpb.shape[1] + 1) // 2
    channels = triple // 3
    head_width = channels // heads
    maps = qkv.view(batch, height, width, 3, heads, head_width)
    table = F.pad(rpb.flatten(1), (0, 1), value=float("-inf")).to(qkv.dtype)
    strips = []
    for rows in plan_axis(height, window, _tile(height)):
        parts = []
        for columns in plan_axis(width, window, _tile(width)):
            tiles = rows.count * columns.count
            index = _bias_index(rows, columns, window, qkv.device)
            bias = table.index_select(1, index).view(heads, rows.tile * columns.tile, -1)
            query = (
                maps[
                    :,
                    rows.query_start : rows.query_stop,
                    columns.query_start : columns.query_stop,
                    0,
                ]
                .view(batch, rows.count, rows.tile, columns.count, columns.tile, heads, head_width)
                .permute(0, 1, 3, 5, 2, 4, 6)
                .reshape(batch * tiles, heads, rows.tile * columns.tile, head_width)
            )
            key, value = (
                _blocks(maps[..., part, :, :], rows, columns).reshape(
                    batch * tiles, heads, rows.block * columns.block, head_width
                )
                for part in (1, 2)
            )
            out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias[None])
            out = (
                out.view(
                    batch, rows.count, columns.count, heads, rows.tile, columns.tile, head_width
                )
                .permute(0, 1, 4, 2, 5, 3, 6)
                .reshape(batch, rows.count * rows.tile, columns.count * columns.tile, channels)
            )
            parts.append(out[:, rows.skip :, columns.skip :])
        strips.append(torch.cat(parts, 2) if len(parts) > 1 else parts[0])
    return torch.cat(strips, 1) if len(strips) > 1 else strips[0]


def _blocks(maps: Tensor, rows: TileRun, columns: TileRun) -> Tensor:
    """[B, H, W, heads, d] -> view [B, row tiles, column tiles, heads, rows, columns, d] of keys."""
    row_stop = rows.key_start + (rows.count - 1) * rows.tile + rows.block
    column_stop = columns.key_start + (columns.count - 1) * columns.tile + columns.block
    cut = maps[:, rows.key_start : row_stop, columns.key_start : column_stop]
    cut = cut.unfold(1, rows.block, rows.tile).unfold(2, columns.block, columns.tile)
    return cut.permute(0, 1, 2, 3, 5, 6, 4)


def _tile(length: int) -> int:
    return length if length <= _WHOLE else _TILE


@lru_cache(maxsize=256)
def _bias_index(rows: TileRun, columns: TileRun, window: int, device: torch.device) -> Tensor:
    """Flat positions in the bias table, (2k-1)**2 where masked: [queries * keys] of one tile."""
    side = 2 * window - 1
    vertical = torch.tensor(rows.relative)[:, None, :, None]
    horizontal = torch.tensor(columns.relative)[None, :, None, :]
    index = vertical * side + horizontal
    index = index.masked_fill((vertical < 0) | (horizontal < 0), side * side)
    return index.flatten().to(device)
