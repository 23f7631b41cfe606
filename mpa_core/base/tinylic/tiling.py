"""Division of an axis of a feature map into query tiles with haloed, clamped blocks of keys.

Neighborhood attention lets the query at ``p`` see the ``window`` keys from ``clamp(p - window // 2,
0, length - window)`` on: the window is shifted inward at the borders and stays whole (SPEC section
1). A tile of ``tile`` queries then needs ``tile + window - 1`` keys at most, a dense block. Tiles
that look alike form a :class:`TileRun`, which shares one table of relative positions. Everything
here is plain integers, prepared once per size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class TileRun:
    """``count`` adjacent tiles whose queries see the same pattern of their blocks."""

    query_start: int
    """Position of the first query of the first tile."""
    key_start: int
    """Position of the first key of the first tile's block."""
    count: int
    tile: int
    """Queries per tile; both tiles and blocks follow one another at this distance."""
    block: int
    """Keys per block."""
    relative: tuple[tuple[int, ...], ...]
    """``[tile][block]``: key - query + window - 1, in 0 … 2 * window - 2; -1 for keys that are
    masked."""

    @property
    def query_stop(self) -> int:
        """Position after the run's last query."""
        return self.query_start + self.count * self.tile

    @property
    def key_stop(self) -> int:
        """Position after the last key of the run's last block."""
        return self.key_start + (self.count - 1) * self.tile + self.block

    def part(self, first: int, stop: int) -> TileRun:
        """Return the tiles ``first`` … ``stop - 1`` of the run."""
        shift = first * self.tile
        start, key_start = self.query_start + shift, self.key_start + shift
        return TileRun(start, key_start, stop - first, self.tile, self.block, self.relative)


@lru_cache(maxsize=1024)
def plan_axis(length: int, window: int, tile: int) -> tuple[TileRun, ...]:
    """Return runs of tiles that cover an axis of ``length`` >= ``window`` positions once, in order.

    ``tile`` is an upper limit: the axis is cut into the fewest tiles that it allows, of equal size
    except for a smaller last one where the length is no multiple.
    """
    tile = -(-length // -(-length // tile))
    runs: list[TileRun] = []
    for start in range(0, length, tile):
        size = min(tile, length - start)
        block = min(length, size + window - 1)
        key_start = min(max(start - window // 2, 0), length - block)
        relative = _relative(range(start, start + size), key_start, length, window, block)
        last = runs[-1] if runs else None
        if (
            last is not None
            and last.relative == relative
            and key_start == last.key_start + last.count * tile
        ):
            runs[-1] = TileRun(
                last.query_start, last.key_start, last.count + 1, tile, block, relative
            )
        else:
            runs.append(TileRun(start, key_start, 1, size, block, relative))
    return tuple(runs)


def _relative(
    queries: range, key_start: int, length: int, window: int, block: int
) -> tuple[tuple[int, ...], ...]:
    table = []
    for query in queries:
        first = min(max(query - window // 2, 0), length - window)
        table.append(
            tuple(
                key - query + window - 1 if first <= key < first + window else -1
                for key in range(key_start, key_start + block)
            )
        )
    return tuple(table)
