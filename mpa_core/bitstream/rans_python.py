"""The loops of ``_rans.c`` in Python, for an installation that was built without a C compiler."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpa_core.bitstream.cdf import CdfTables, Int32Array, UInt32Array
    from mpa_core.bitstream.rans import State

_LEAST = 2**31
_MOST_NIBBLES = 7


class _StopError(Exception):
    """A symbol cannot be decoded; the argument is the status."""


def encode(operations: UInt32Array, words: UInt32Array) -> int:
    """See ``mpa_rans_encode``."""
    x, at = _LEAST, len(words)
    for operation in reversed(operations.tolist()):
        start, width, bits = operation & 0xFFFF, operation >> 16, 16
        if not width:
            width, bits = 1, 4
        if x >> (63 - bits) >= width:
            at -= 1
            words[at] = x & 0xFFFFFFFF
            x >>= 32
        x = (x // width << bits) + x % width + start
    words[at - 2 : at] = x & 0xFFFFFFFF, x >> 32
    return at - 2


def decode(
    state: State, words: UInt32Array, rows: Int32Array, tables: CdfTables, symbols: Int32Array
) -> int:
    """See ``mpa_rans_decode``."""
    from mpa_core.bitstream.rans import DECODED, ENDED, IMPOSSIBLE

    intervals = tables.intervals.tolist()
    starts = [interval & 0xFFFF for interval in intervals]
    first, escape, offset = tables.first.tolist(), tables.escape.tolist(), tables.offset.tolist()
    x, left = state.x, words[state.position :].tolist()[::-1]

    def refill() -> None:
        nonlocal x
        if x < _LEAST:
            if not left:
                raise _StopError(ENDED)
            x = x << 32 | left.pop()

    def nibble() -> int:
        nonlocal x
        refill()
        value, x = x & 15, x >> 4
        return value

    def outside(last: int) -> int:
        count = nibble()
        if count > _MOST_NIBBLES:
            raise _StopError(IMPOSSIBLE)
        nibbles = [nibble() for _ in range(count)]
        if nibbles and not nibbles[-1]:
            raise _StopError(IMPOSSIBLE)
        raw = sum(value << (4 * i) for i, value in enumerate(nibbles))
        return -(raw + 1) // 2 if raw & 1 else last + raw // 2

    done, state.status = 0, DECODED
    try:
        for row in rows.tolist():
            refill()
            low, start, last = x & 0xFFFF, first[row], escape[row]
            at = bisect_right(starts, low, start, start + last + 1) - 1
            x = (intervals[at] >> 16) * (x >> 16) + low - starts[at]
            value = at - start
            symbols[done] = offset[row] + (outside(last) if value == last else value)
            done += 1
    except _StopError as stop:
        state.status = stop.args[0]
    state.x, state.position = x, len(words) - len(left)
    return done
