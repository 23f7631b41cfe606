"""Cutting an axis of a feature map into query tiles with haloed, clamped blocks of keys.

Neighborhood attention lets the query at ``p`` see the ``window`` keys from
``clamp(p - window // 2, 0, length - window)`` on: the window is shifted inward at the borders and
stays whole (SPEC section 1). A tile of ``tile`` queries then needs ``tile + window - 1`` keys at
most, a dense block. Tiles that look alike form a :class:`TileRun`, which shares one table of
relative positions. Everything here is plain integers, prepared once per size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class TileRun:
    """``count`` tiles at equal distances whose queries see the same pattern of their block."""

    query_start: int
    """Position of the first query of the first tile."""
    key_start: int
    """Position of the first key of the first tile's block."""
    count: int
    tile: int
    """Queries per tile, and the distance from one tile to the next."""
    block: int
    """Keys per block."""
    skip: int
    """Leading queries of the run that belong to the run before it (only ever of a last tile)."""
    relative: tuple[tuple[int, ...], ...]
    """``[tile][block]``: key - query + window - 1, in 0 .. 2 * window - 2; -1 where out of sight."""

    @property
    def query_stop(self) -> int:
        """Position behind the run's last query."""
        return self.query_start + self.count * self.tile


@lru_cache(maxsize=1024)
def plan_axis(length: int, window: int, tile: int) -> tuple[TileRun, ...]:
    """Runs of tiles that cover an axis of ``length`` >= ``window`` positions, in order.

    ``tile`` is an upper limit: the axis is cut into the fewest tiles of it, and these are evened
    out. Where the length is no multiple, the last tile overlaps the one before (``skip``).
    """
    count = -(-length // tile)
    tile = -(-length // count)
    block = min(length, tile + window - 1)
    runs: list[TileRun] = []
    covered = 0
    for index in range(count):
        start = min(index * tile, length - tile)
        key_start = min(max(start - window // 2, 0), length - block)
        relative = _relative(start, key_start, length, window, tile, block)
        last = runs[-1] if runs else None
        if (
            last is not None
            and last.relative == relative
            and start == last.query_stop
            and key_start == last.key_start + last.count * tile
        ):
            runs[-1] = TileRun(
                last.query_start, last.key_start, last.count + 1, tile, block, last.skip, relative
            )
        else:
            runs.append(TileRun(start, key_start, 1, tile, block, covered - start, relative))
        covered = start + tile
    return tuple(runs)


def _relative(
    start: int, key_start: int, length: int, window: int, tile: int, block: int
) -> tuple[tuple[int, ...], ...]:
    rows = []
    for query in range(start, start + tile):
        first = min(max(query - window // 2, 0), length - window)
        rows.append(
            tuple(
                key - query + window - 1 if first <= key < first + window else -1
                for key in range(key_start, key_start + block)
            )
        )
    return tuple(rows)
