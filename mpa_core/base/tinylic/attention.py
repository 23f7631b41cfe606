"""Neighborhood attention on NHWC tokens, without the natten package (SPEC section 1).

The map is cut into tiles of queries; each tile sees one dense, haloed block of keys, and keys that
a query must not see are masked by a bias of -inf (:mod:`mpa_core.base.tinylic.tiling`). So the
whole layer is a few batched matrix products instead of a gather of every window.

There are two implementations of the same mathematics: float32 and float64 on the CPU take
:class:`_TiledAttention`, written for the cache and with its own backward; everything else takes one
``scaled_dot_product_attention`` per class of tiles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mpa_core.base.linear import TokenLinear
from mpa_core.base.tinylic.tiling import TileRun, plan_axis
from mpa_core.errors import ConfigError

_TILE = {3: 4, 5: 4, 7: 6}
"""Queries per side of a tile, by window, chosen by measurement: small tiles waste fewer products
on masked keys, large ones have fewer keys to gather. Counts of keys are multiples of 16 or
nearly so."""
_LARGE_TILE = 8
_CHUNK = 1 << 19
"""Scores held at a time per thread: few enough for the cache, enough to pay for the calls."""
_SUM_RANGE = (2.0**-40, 2.0**60)
"""Sums of unshifted exponentials inside this range lose nothing; outside, the row maximum is
subtracted first."""


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
        self.qkv = TokenLinear(dim, 3 * dim)
        self.rpb = nn.Parameter(torch.empty(heads, 2 * window - 1, 2 * window - 1))
        self.proj = TokenLinear(dim, dim)
        nn.init.trunc_normal_(self.rpb, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the attended tokens for ``tokens`` ``[B, H, W, C]``, H and W at least 1."""
        height, width = tokens.shape[1:3]
        below, right = max(self.window - height, 0), max(self.window - width, 0)
        if below or right:
            tokens = F.pad(tokens, (0, 0, 0, right, 0, below))
        attended = neighborhood_attention(self.qkv(tokens), self.rpb)
        if below or right:
            attended = attended[:, :height, :width]
        out: Tensor = self.proj(attended)
        return out

    def macs(self, tokens: Tensor) -> int:
        """Return the number of multiply-adds by definition, for ``tokens`` ``[B, H, W, C]``.

        They are those of qkv and projection, of queries by keys and of weights by values, where
        each query meets its window of keys.
        """
        return tokens.numel() * (4 * self.dim + 2 * self.window**2)

    def extra_repr(self) -> str:
        """Return the sizes for ``repr``."""
        return f"dim={self.dim}, heads={self.heads}, window={self.window}"


def neighborhood_attention(qkv: Tensor, rpb: Tensor) -> Tensor:
    """Attend, without the input and output projections of the layer.

    Args:
        qkv: ``[B, H, W, 3C]``, H and W at least k.
        rpb: relative-position bias, ``[heads, 2k-1, 2k-1]`` for windows of k x k.

    Returns:
        ``[B, H, W, C]``.
    """
    if qkv.device.type == "cpu" and qkv.dtype in (torch.float32, torch.float64):
        out: Tensor = _TiledAttention.apply(qkv.contiguous(), rpb)
        return out
    return _tiled_sdpa(qkv, rpb)


def _tiled_sdpa(qkv: Tensor, rpb: Tensor) -> Tensor:
    """Compute one masked dense attention per class of tiles; differentiable any number of times."""
    batch, height, width = qkv.shape[:3]
    heads, window = rpb.shape[0], (rpb.shape[1] + 1) // 2
    # [B, heads, H, W, d] each
    query, key, value = qkv.unflatten(3, (3, heads, -1)).permute(3, 0, 4, 1, 2, 5)
    table = _bias_table(rpb).to(qkv.dtype)
    strips = []
    for rows in plan_axis(height, window, _LARGE_TILE):
        strip = []
        for columns in plan_axis(width, window, _LARGE_TILE):
            index = _bias_index(rows.relative, columns.relative, window, qkv.device)
            bias = table.index_select(1, index).view(1, heads, rows.tile * columns.tile, -1)
            out = F.scaled_dot_product_attention(
                _dense_queries(query, rows, columns),
                _dense_keys(key, rows, columns),
                _dense_keys(value, rows, columns),
                attn_mask=bias,
            )
            grid = (batch, rows.count, columns.count, heads, rows.tile, columns.tile, -1)
            shape = (batch, rows.count * rows.tile, columns.count * columns.tile, -1)
            strip.append(out.reshape(grid).permute(0, 1, 4, 2, 5, 3, 6).reshape(shape))
        strips.append(torch.cat(strip, 2))
    return torch.cat(strips, 1)


def _dense_queries(maps: Tensor, rows: TileRun, columns: TileRun) -> Tensor:
    """Gather queries: [B, heads, H, W, d] -> [B * tiles, heads, queries of a tile, d]."""
    maps = maps[:, :, rows.query_start : rows.query_stop]
    maps = maps[:, :, :, columns.query_start : columns.query_stop]
    return _dense(maps, rows, columns, rows.tile, columns.tile)


def _dense_keys(maps: Tensor, rows: TileRun, columns: TileRun) -> Tensor:
    """Gather keys or values: [B, heads, H, W, d] -> [B * tiles, heads, keys of a block, d]."""
    maps = maps[:, :, rows.key_start : rows.key_stop, columns.key_start : columns.key_stop]
    return _dense(maps, rows, columns, rows.block, columns.block)


def _dense(maps: Tensor, rows: TileRun, columns: TileRun, height: int, width: int) -> Tensor:
    tiles = maps.unfold(2, height, rows.tile).unfold(3, width, columns.tile)
    batch, heads, head_width = maps.shape[0], maps.shape[1], maps.shape[4]
    tiles = tiles.permute(0, 2, 3, 1, 5, 6, 4)
    count = batch * rows.count * columns.count
    return tiles.reshape(count, heads, height * width, head_width)


class _TiledAttention(torch.autograd.Function):
    """Attention in chunks of scores that stay in cache; the backward recomputes them.

    Exponentials are taken to base 2 (log2(e) goes into the queries and the bias) and without
    subtracting the row maximum, which costs as much as all the rest of a softmax. The sums tell
    whether that was safe; if not, everything is computed once more with the row maximum.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, rpb: Tensor) -> Tensor:
        maps = _scaled_maps(qkv, rpb.shape[0])
        out = qkv.new_empty(*qkv.shape[:3], qkv.shape[3] // 3)
        sums = qkv.new_empty(*maps.shape[1:5], 1)
        shift = None
        _attend(maps, rpb, out, sums, shift)
        low, high = torch.aminmax(sums)
        if not (low > _SUM_RANGE[0] and high < _SUM_RANGE[1]):
            shift = torch.empty_like(sums)
            _attend(maps, rpb, out, sums, shift)
        ctx.save_for_backward(qkv, rpb, out, sums, shift)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None]:
        qkv, rpb, out, sums, shift = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient of the gradient is wanted: let autograd build it
            again = _tiled_sdpa(qkv, rpb)
            first, second = torch.autograd.grad(again, (qkv, rpb), grads[0], create_graph=True)
            return first, second
        # The table of a frozen base needs none, as in a path's training and in a search.
        wanted = ctx.needs_input_grad[1]
        table = F.pad(torch.zeros_like(rpb).flatten(1), (0, 1)) if wanted else None
        of_qkv = _gradients(qkv, rpb, out, sums, shift, grads[0], table)
        return of_qkv, None if table is None else table[:, :-1].reshape(rpb.shape)


def _attend(maps: Tensor, rpb: Tensor, out: Tensor, sums: Tensor, shift: Tensor | None) -> None:
    """Fill ``out`` [B, H, W, C], ``sums`` and ``shift`` (row maxima) [heads, B, H, W, 1]."""
    out_map = _head_maps(out, rpb.shape[0], 1)[0]
    for kind in _kinds(maps, rpb):
        for chunk in kind.chunks:
            query = _flat(chunk.queries(maps[0]))
            key, value = _flat(chunk.keys(maps[1])), _flat(chunk.keys(maps[2]))
            scores = _scores(query, key, kind.bias[chunk.heads])
            if shift is not None:
                peak = scores.amax(-1, keepdim=True)
                scores.sub_(peak)
                _assign(chunk.queries(shift), peak)
            total = scores.exp2_().sum(-1, keepdim=True)
            _assign(chunk.queries(sums), total)
            target = chunk.queries(out_map)
            shape = target.shape
            torch.div(torch.bmm(scores, value).view(shape), total.view(*shape[:-1], 1), out=target)


def _gradients(
    qkv: Tensor,
    rpb: Tensor,
    out: Tensor,
    sums: Tensor,
    shift: Tensor | None,
    grad: Tensor,
    table: Tensor | None,
) -> Tensor:
    """Return the gradient of ``qkv``; add that of the bias table to ``table`` if one is given."""
    heads = rpb.shape[0]
    maps = _scaled_maps(qkv, heads)
    grad_map = torch.empty_like(sums.expand(maps.shape[1:]), memory_format=torch.contiguous_format)
    torch.div(_head_maps(grad, heads, 1)[0], sums, out=grad_map)
    delta = (grad_map * _head_maps(out, heads, 1)[0]).sum(-1, keepdim=True).neg_()
    grad_maps = torch.zeros_like(maps)
    for kind in _kinds(maps, rpb):
        grad_bias = torch.zeros_like(kind.bias)
        for chunk in kind.chunks:
            query, grad_out = _flat(chunk.queries(maps[0])), _flat(chunk.queries(grad_map))
            key, value = _flat(chunk.keys(maps[1])), _flat(chunk.keys(maps[2]))
            bias = kind.bias[chunk.heads]
            weights = _scores(query, key, bias)
            if shift is not None:
                weights.sub_(_flat(chunk.queries(shift)))
            weights.exp2_()
            chunk.add_keys(grad_maps[2], torch.bmm(weights.mT, grad_out))
            minus = _flat(chunk.queries(delta))
            grad_scores = torch.baddbmm(minus, grad_out, value.mT).mul_(weights)
            chunk.add_keys(grad_maps[1], torch.bmm(grad_scores.mT, query))
            _assign(chunk.queries(grad_maps[0]), torch.bmm(grad_scores, key))
            if table is not None:
                by_tile = grad_scores.view(bias.shape[0], -1, *bias.shape[1:])
                grad_bias[chunk.heads] += by_tile.sum(1)
        if table is not None:
            table.index_add_(1, kind.places, grad_bias.flatten(1))
    result = torch.empty_like(qkv)
    parts = _head_maps(result, heads, 3)
    torch.mul(grad_maps[0], maps.shape[-1] ** -0.5, out=parts[0])
    torch.mul(grad_maps[1], math.log(2.0), out=parts[1])
    parts[2].copy_(grad_maps[2])
    return result


_Key = tuple[tuple[int, ...], int, int, int, int, int]
_View = tuple[tuple[int, ...], tuple[int, ...], int]


@dataclass(frozen=True)
class _Chunk:
    """Tiles of one class taken together: some heads, some images and some rows of tiles."""

    heads: slice
    batch: slice
    rows: TileRun
    columns: TileRun
    known: dict[_Key, _View] = field(default_factory=dict)
    """Arguments of the views taken so far, by the map's strides and width and the place in it."""

    def queries(self, maps: Tensor) -> Tensor:
        """Return a view of the queries.

        [heads, B, H, W, d] -> [heads, B, row tiles, column tiles, tile, tile, d].
        """
        rows, columns = self.rows, self.columns
        return self._view(maps, rows.query_start, columns.query_start, rows.tile, columns.tile)

    def keys(self, maps: Tensor) -> Tensor:
        """Return a view of the keys or values.

        [heads, B, H, W, d] -> [heads, B, row tiles, column tiles, block, block, d].
        """
        rows, columns = self.rows, self.columns
        return self._view(maps, rows.key_start, columns.key_start, rows.block, columns.block)

    def add_keys(self, maps: Tensor, blocks: Tensor) -> None:
        """Add overlapping blocks to their map, in pieces that do not overlap."""
        rows, columns = self.rows, self.columns
        blocks = blocks.view(self.keys(maps).shape)
        for top in range(0, rows.block, rows.tile):
            for left in range(0, columns.block, columns.tile):
                high = min(rows.tile, rows.block - top)
                wide = min(columns.tile, columns.block - left)
                target = self._view(
                    maps, rows.key_start + top, columns.key_start + left, high, wide
                )
                target.add_(blocks[..., top : top + high, left : left + wide, :])

    def _view(self, maps: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
        # One call instead of slice, unfold and permute, and its arguments kept: there are many
        # chunks of little work.
        strides = maps.stride()
        key = (strides, maps.shape[4], top, left, height, width)
        known = self.known.get(key)
        if known is None:
            head, image, down, along, last = strides
            rows, columns = self.rows, self.columns
            known = self.known[key] = (
                (
                    self.heads.stop - self.heads.start,
                    self.batch.stop - self.batch.start,
                    rows.count,
                    columns.count,
                    height,
                    width,
                    maps.shape[4],
                ),
                (head, image, rows.tile * down, columns.tile * along, down, along, last),
                self.heads.start * head + self.batch.start * image + top * down + left * along,
            )
        size, stride, offset = known
        return maps.as_strided(size, stride, maps.storage_offset() + offset)


class _Kind(NamedTuple):
    """A class of tiles, which share a bias."""

    places: Tensor
    """[queries * keys]: indexes into the bias table."""
    bias: Tensor
    """[heads, queries, keys], scaled for exponentials to base 2."""
    chunks: tuple[_Chunk, ...]


def _kinds(maps: Tensor, rpb: Tensor) -> Iterator[_Kind]:
    heads, batch, height, width = maps.shape[1:5]
    window = (rpb.shape[1] + 1) // 2
    table = _bias_table(rpb.detach()) * math.log2(math.e)
    budget = _CHUNK * torch.get_num_threads()
    for rows, columns, chunks in _plan(heads, batch, height, width, window, budget):
        index = _bias_index(rows.relative, columns.relative, window, maps.device)
        bias = table.index_select(1, index).view(heads, rows.tile * columns.tile, -1)
        yield _Kind(index, bias, chunks)


@lru_cache(maxsize=128)
def _plan(
    heads: int, batch: int, height: int, width: int, window: int, budget: int
) -> tuple[tuple[TileRun, TileRun, tuple[_Chunk, ...]], ...]:
    """Return the classes of tiles with their chunks of about ``budget`` scores."""
    classes = []
    for rows, columns in product(
        *(plan_axis(length, window, _tile(length, window)) for length in (height, width))
    ):
        strip = columns.count * rows.tile * columns.tile * rows.block * columns.block
        chunks = tuple(
            _Chunk(h, b, rows.part(r.start, r.stop), columns)
            for h in _steps(heads, budget // (strip * rows.count * batch))
            for b in _steps(batch, budget // (strip * rows.count))
            for r in _steps(rows.count, budget // strip)
        )
        classes.append((rows, columns, chunks))
    return tuple(classes)


def _tile(length: int, window: int) -> int:
    """Return the queries per tile along an axis; all if a block would hold nearly all keys."""
    tile = _TILE.get(window, _LARGE_TILE)
    return length if length <= max(tile + window - 1, _LARGE_TILE) else tile


def _steps(length: int, step: int) -> list[slice]:
    step = max(step, 1)
    return [slice(i, min(i + step, length)) for i in range(0, length, step)]


def _head_maps(tokens: Tensor, heads: int, parts: int) -> Tensor:
    """Return a view by heads: [B, H, W, parts * C] -> [parts, heads, B, H, W, d]."""
    return tokens.unflatten(3, (parts, heads, -1)).permute(3, 4, 0, 1, 2, 5)


def _scaled_maps(qkv: Tensor, heads: int) -> Tensor:
    """Split by heads and scale the queries for a softmax to base 2.

    [B, H, W, 3C] -> [3, heads, B, H, W, d].
    """
    source = _head_maps(qkv, heads, 3)
    maps = qkv.new_empty(source.shape)
    torch.mul(source[0], source.shape[-1] ** -0.5 * math.log2(math.e), out=maps[0])
    maps[1:].copy_(source[1:])
    return maps


def _flat(tiles: Tensor) -> Tensor:
    """Flatten: [heads, B, row tiles, column tiles, h, w, d] -> contiguous [N, h * w, d]."""
    shape = tiles.shape
    return tiles.reshape(-1, shape[4] * shape[5], shape[6])


def _assign(tiles: Tensor, values: Tensor) -> None:
    """Write ``values`` [N, h * w, d] to ``tiles``, the inverse of :func:`_flat`."""
    tiles.copy_(values.view(tiles.shape))


def _scores(query: Tensor, key: Tensor, bias: Tensor) -> Tensor:
    """Return [N, queries, keys]; N runs over the heads of ``bias`` first."""
    scores = query.new_empty(query.shape[0], *bias.shape[1:])
    scores.view(bias.shape[0], -1, *bias.shape[1:]).copy_(bias[:, None])
    return scores.baddbmm_(query, key.mT)


def _bias_table(rpb: Tensor) -> Tensor:
    """Return the bias [heads, (2k-1)**2 + 1], flat, followed by -inf for masked keys."""
    return F.pad(rpb.flatten(1), (0, 1), value=-math.inf)


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # cached, and so used in training as well as in inference
def _bias_index(
    down: tuple[tuple[int, ...], ...],
    along: tuple[tuple[int, ...], ...],
    window: int,
    device: torch.device,
) -> Tensor:
    """Return flat positions in the bias table, (2k-1)**2 if masked: [queries * keys] of a tile."""
    side = 2 * window - 1
    vertical = torch.tensor(down)[:, None, :, None]
    horizontal = torch.tensor(along)[None, :, None, :]
    index = vertical * side + horizontal
    index = index.masked_fill((vertical < 0) | (horizontal < 0), side * side)
    return index.flatten().to(device)
