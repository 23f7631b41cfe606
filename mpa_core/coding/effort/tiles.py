"""Large pictures in parts, so that a search's memory does not grow with the picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

WHOLE_PIXELS = 2**19
"""Number of padded pixels up to which a picture is searched as a whole; a tile has no more."""
HALO = 64
"""Pixels around a tile that are searched with it and then forgotten: its symbols are predicted
from those next to it, and show there."""


class Span(NamedTuple):
    """One axis of a tile, in pixels of the padded picture."""

    start: int
    stop: int
    """Beginning and end of what is searched, the halo included."""
    kept_start: int
    kept_stop: int
    """Beginning and end of what is kept."""


class Tile(NamedTuple):
    """A part of the picture."""

    rows: Span
    columns: Span

    def cut(self, tensor: Tensor, stride: int) -> Tensor:
        """Return the part of ``[..., H/stride, W/stride]`` that is searched."""
        rows, columns = self.rows, self.columns
        return tensor[
            ...,
            rows.start // stride : rows.stop // stride,
            columns.start // stride : columns.stop // stride,
        ]

    def inside(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of what is searched of a picture without its padding."""
        rows, columns = self.rows, self.columns
        return min(rows.stop, height) - rows.start, min(columns.stop, width) - columns.start

    def put(self, found: Tensor, whole: Tensor, stride: int) -> None:
        """Write the kept part of ``found``, the result for :meth:`cut`, to ``whole``."""
        kept = whole[
            ...,
            self.rows.kept_start // stride : self.rows.kept_stop // stride,
            self.columns.kept_start // stride : self.columns.kept_stop // stride,
        ]
        top = (self.rows.kept_start - self.rows.start) // stride
        left = (self.columns.kept_start - self.columns.start) // stride
        kept.copy_(found[..., top : top + kept.shape[-2], left : left + kept.shape[-1]])


def tiles(height: int, width: int, stride: int) -> list[Tile]:
    """Return the tiles of a padded picture; one if it is no larger than :data:`WHOLE_PIXELS`.

    Args:
        height, width: multiples of ``stride``.
        stride: the base's hyper stride; tiles begin and end at its multiples.
    """
    if height * width <= WHOLE_PIXELS:
        return [Tile(Span(0, height, 0, height), Span(0, width, 0, width))]
    halo = math.ceil(HALO / stride) * stride
    side = max(stride, (math.isqrt(WHOLE_PIXELS) - 2 * halo) // stride * stride)
    return [
        Tile(rows, columns)
        for rows in _spans(height, side, halo)
        for columns in _spans(width, side, halo)
    ]


def _spans(length: int, side: int, halo: int) -> Iterator[Span]:
    for start in range(0, length, side):
        stop = min(start + side, length)
        yield Span(max(0, start - halo), min(length, stop + halo), start, stop)
