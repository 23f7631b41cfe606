"""Allocation of tokens to paths, with exact counts, stable ties, and integers for every choice.

A *route* is a number that stands for a path: 0 for the main path, p + 1 for side path p.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mpa_core.errors import MixError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FREE = -1
"""Value of a token that no region claims."""

_LAST = torch.iinfo(torch.int64).max


def token_counts(main_share: Tensor, side_shares: Sequence[float], free: Tensor) -> Tensor:
    """Return the tokens of each route: main floor(T * rho), the rest by largest remainder.

    A product within rounding error below a whole number counts as whole (1e-6 tokens for float64
    shares; T times the spacing of floats for coarser ones), so that rho = 1 - 1/7 of 7 tokens is 6
    and not 5. Equal remainders go to the side listed first. Runs on the CPU in float64 with
    operations that IEEE 754 fixes to the bit.

    Args:
        main_share: rho per image, floating [B], in [0, 1].
        side_shares: weight of each side path; only their proportions count. All zero is allowed
            where ``main_share`` is 1 throughout.
        free: int64 [B], the number T of tokens of each image.

    Returns:
        int64 [B, 1 + len(side_shares)] on the CPU; row sums equal ``free``.
    """
    spacing = torch.finfo(main_share.dtype).eps
    total = free.cpu().double()
    slack = (total * spacing).clamp(1e-6, 0.5)
    main = (total * main_share.detach().cpu().double() + slack).floor()
    main = torch.minimum(main.clamp(min=0), total)
    rest = total - main

    weights = torch.tensor(list(side_shares), dtype=torch.float64)
    quota = rest[:, None] * weights / weights.sum().clamp(min=torch.finfo(torch.float64).tiny)
    whole = (quota + 1e-6).floor()
    # Rounded to 1e-6, so that remainders that differ by rounding error alone tie.
    remainder = ((quota - whole) * 1e6).round()
    order = remainder.argsort(dim=1, descending=True, stable=True)
    place = torch.empty_like(order).scatter_(1, order, torch.arange(len(weights)).expand_as(order))
    missing = rest - whole.sum(1)
    sides = whole + (place < missing[:, None])
    return torch.cat([main[:, None], sides], dim=1).long()


def allocate(scores: Tensor, counts: Tensor, regions: Tensor | None = None) -> Tensor:
    """Assign every token to one route.

    With one side path this is SPEC section 2: tokens sorted by score, descending and stable (of
    equal scores the lower index comes first), and the first ``counts[:, 0]`` take the main MLP.

    With several, the scores of each path become ranks among the free tokens of the image, so that
    no path's scale of logits outweighs another's. Main gets the tokens with the best mean rank,
    weighted by the paths' counts. Of the rest, each side path in turn takes the tokens that suit it
    better than the paths still to be served: those whose rank for it exceeds by most the highest of
    their ranks for the others. Ties go to the lower index. From the ranks on, everything is
    integer.

    Args:
        scores: float [P, B, T], importance of each token to the main path by path p's predictor;
            rows of a path whose count is 0 in every image are not read.
        counts: int64 [B, P + 1], tokens per route among the free ones.
        regions: int64 [B, T], a route or :data:`FREE`; None leaves all free.

    Returns:
        int64 [B, T] of routes, on the device of ``scores``.

    Raises:
        MixError: a row of ``counts`` does not sum to the image's free tokens.
    """
    batch, tokens = scores.shape[1:]
    device = scores.device
    free = None if regions is None else (regions == FREE).to(device)
    expected = torch.full((batch,), tokens) if free is None else free.sum(1).cpu()
    if not torch.equal(counts.sum(1).cpu(), expected):
        raise MixError(
            f"counts sum to {counts.sum(1).tolist()}, the free tokens are {expected.tolist()}; "
            "take the counts from token_counts"
        )
    active = [p for p in range(len(scores)) if bool((counts[:, p + 1] > 0).any())]
    counts = counts.to(device)
    routes = torch.zeros(batch, tokens, dtype=torch.int64, device=device)
    if active:
        ranks = _ranks(scores[active] if len(active) < len(scores) else scores, free)
        sides = counts[:, [p + 1 for p in active]].T[..., None]
        # For one side path the rank is the place.
        place = ranks[0] if len(active) == 1 else _place((sides * ranks).sum(0), free)
        left = place >= counts[:, :1]
        if free is not None:
            left = left & free
        for i, p in enumerate(active[:-1]):
            # Paths an image does not use are no rivals there; ranks are never negative.
            rivals = ranks[i + 1 :].masked_fill(sides[i + 1 :] == 0, -tokens)
            taken = _place(rivals.amax(0) - ranks[i], left) < sides[i]
            routes.masked_fill_(taken, p + 1)
            left = left & ~taken
        routes.masked_fill_(left, active[-1] + 1)
    if regions is not None and free is not None:
        routes = torch.where(free, routes, regions.to(device))
    return routes


def region_grid(
    masks: Sequence[tuple[int, NDArray[np.bool_]]],
    padded_size: tuple[int, int],
    grid: tuple[int, int],
) -> Tensor:
    """Return the regions of a picture on a stage's tokens.

    A token belongs to a region if any pixel of its cell does; where regions overlap, the first
    wins. Padding is at the bottom and the right, and belongs to no region.

    Args:
        masks: (route, boolean [height, width]) in the order they win.
        padded_size: height and width after padding; multiples of the grid's.
        grid: height and width in tokens.

    Returns:
        int64 [grid height, grid width]: a route or :data:`FREE`.
    """
    import numpy as np

    routes = np.full(grid, FREE, dtype=np.int64)
    for route, mask in reversed(masks):
        padded = np.zeros(padded_size, dtype=bool)
        padded[: mask.shape[0], : mask.shape[1]] = mask
        cells = padded.reshape(grid[0], padded_size[0] // grid[0], grid[1], -1)
        routes[cells.any(axis=(1, 3))] = route
    return torch.from_numpy(routes)


def _ranks(scores: Tensor, free: Tensor | None) -> Tensor:
    """Return the place of each token by descending score among the free ones; int64 [P, B, T]."""
    order = scores.detach().argsort(dim=-1, descending=True, stable=True)
    if free is None:
        steps = torch.arange(scores.shape[-1], device=scores.device).expand_as(order)
        return torch.empty_like(order).scatter_(-1, order, steps)
    sorted_free = free.expand_as(order).gather(-1, order)
    ranks = torch.empty_like(order).scatter_(-1, order, sorted_free.cumsum(-1) - 1)
    return ranks.masked_fill(~free, scores.shape[-1])


def _place(key: Tensor, among: Tensor | None) -> Tensor:
    """Return the place of each token by ascending integer key; those not ``among`` come last.

    The order is stable.
    """
    if among is not None:
        key = key.masked_fill(~among, _LAST)
    order = key.argsort(dim=-1, stable=True)
    steps = torch.arange(key.shape[-1], device=key.device).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, steps)
