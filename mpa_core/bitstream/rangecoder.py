"""Range coding of integer symbols: a checked interface over the rANS coder of :mod:`.rans`.

This module and :class:`CdfTables` check all that the loops of :mod:`.rans` rely on; the loops do
not rely on the contents of a stream. Streams are byte for byte those of compressai, see
``docs/spec/bitstream.md``.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from mpa_core.bitstream import rans
from mpa_core.bitstream.cdf import (
    ESCAPE_LIMIT,
    PRECISION,
    CdfTables,
    Int32Array,
    UInt32Array,
    fits_int32,
)
from mpa_core.errors import BitstreamError, DesyncError

__all__ = [
    "ESCAPE_LIMIT",
    "MAX_STREAM_BYTES",
    "PRECISION",
    "CdfTables",
    "RangeDecoder",
    "RangeEncoder",
    "check_capacity",
]

MAX_STREAM_BYTES = 2**26
"""Size in bytes of the longest stream that is decoded, far more than a picture takes."""

# 16 bits for the escape interval and 8 nibbles (the count and 7 of value) are 48 bits; the seventh
# byte is more than the rounding below and the state at the end can add.
_MAX_SYMBOL_BYTES = 7
# The division by 65536 is rounded, so that a symbol of probability p changes the state by p to
# within a factor 1 +- (1 - p) 2^-15, a refill by 2^32 to within 1 +- 2^-15: of the bits that a
# symbol takes a share of 2^-15, and never more than 4.5e-5 bits per symbol and as much per word.
_DRIFT_BITS = 5e-5


class RangeEncoder:
    """Writes one stream, in as many calls as wanted; each stream needs an encoder of its own."""

    def __init__(self) -> None:
        self._operations: list[UInt32Array] = []

    def encode(self, symbols: ArrayLike, indexes: ArrayLike, tables: CdfTables) -> None:
        """Append ``symbols``, each coded with the row of ``tables`` that its index names.

        Args:
            symbols: integers of any shape, flattened in C order.
            indexes: as many integers, each the number of a row.
            tables: the CDF tables.

        Raises:
            BitstreamError: shapes differ, an index has no row, or a symbol is more than 2^27
                outside its row.
        """
        array = np.asarray(symbols)
        if array.size and not np.issubdtype(array.dtype, np.integer):
            raise BitstreamError(f"symbols of type {array.dtype}, expected integers: round first")
        flat = array.reshape(-1)
        rows = tables.check_indexes(indexes)
        if len(flat) != len(rows):
            raise BitstreamError(f"{len(flat)} symbols but {len(rows)} table indexes")
        if not len(flat):
            return
        if not fits_int32(flat):
            raise BitstreamError(
                f"symbols run from {flat.min()} to {flat.max()}, expected 32-bit integers; "
                "the latents diverged"
            )
        self._operations.append(tables.operations(flat, rows))

    def finish(self) -> bytes:
        """Return the stream: at least 8 bytes, a multiple of 4. The encoder is empty afterwards."""
        operations = np.concatenate([np.zeros(0, np.uint32), *self._operations])
        self._operations = []
        return rans.encode(operations).astype("<u4").tobytes()


class RangeDecoder:
    """Reads one stream of :class:`RangeEncoder` or of compressai, in as many calls as wanted.

    Args:
        data: the stream.
        max_symbols: number of symbols that it holds; asking for more is an error.
        conceal: decode a damaged stream as far as possible. Symbols that it does not hold, or that
            follow its end, are 0; no fault of the stream is an error, and :attr:`damage` and
            :attr:`concealed` say what happened. rANS decodes from front to back, so a stream cut
            short still gives its beginning; after a changed byte the symbols are wrong but possible
            ones, up to where they take more bits than there are.

    Attributes:
        damage: with ``conceal``, the fault of the stream as far as it was read (complete only after
            :meth:`finish`); None for no fault.
        concealed: number of symbols that were replaced by 0.

    Raises:
        BitstreamError: ``data`` is no stream of at most ``max_symbols`` symbols.
    """

    def __init__(self, data: bytes, max_symbols: int, *, conceal: bool = False) -> None:
        self.damage = _refusal(data, max_symbols)
        self.concealed = 0
        if conceal:
            data = data[: _longest(max_symbols)]
            data = data[: len(data) // 4 * 4]
        elif self.damage:
            raise BitstreamError(self.damage)
        self._conceal = conceal
        self._lost = _refusal(data, max_symbols)
        self._max_symbols = max_symbols
        self._asked = 0
        self._count = 0
        if not self._lost:
            self._words = np.frombuffer(bytes(data), "<u4").astype(np.uint32)
            self._state = rans.State(int.from_bytes(data[:8], "little"), 2)

    def decode(self, indexes: ArrayLike, tables: CdfTables) -> Int32Array:
        """Decode the next symbols, one per entry of ``indexes``, flat.

        Args:
            indexes: integers of any shape, each the number of the row that the symbol was coded
                with.
            tables: the CDF tables.

        Raises:
            BitstreamError: an index has no row, or more than ``max_symbols`` symbols are asked for.
            DesyncError: the stream ended before the symbols did, or a symbol is impossible: the
                stream is damaged, or was encoded with other indexes. Not with ``conceal``.
        """
        self._check_not_lost()
        rows = tables.check_indexes(indexes)
        if self._asked + len(rows) > self._max_symbols:
            raise BitstreamError(
                f"{self._asked + len(rows)} symbols asked of a stream declared to hold "
                f"{self._max_symbols}"
            )
        self._asked += len(rows)
        if self._lost:
            symbols, held = np.zeros(len(rows), np.int32), 0
        else:
            symbols, held = rans.decode(self._state, self._words, rows, tables)
            self._count += held
            self._lost = self._why_stopped()
        self._check_not_lost()
        self.damage = self.damage or self._lost
        self.concealed += len(rows) - held
        return symbols

    def finish(self) -> None:
        """Check that the decoded symbols account for the whole stream, no more and no less.

        The coder must be back in the state in which its encoder began, to the bit. This holds for
        every stream that was encoded from exactly these symbols; the converse takes a checksum of
        the symbols.

        Raises:
            DesyncError: words are left over, or more would be needed. With ``conceal``,
                :attr:`damage` says so instead.
        """
        self._check_not_lost()
        if self._lost:
            return
        left = len(self._words) - self._state.position
        if self._state.x == rans.STATE_MIN and not left:
            return
        text = (
            f"{self._count} symbols account for {self._state.position} of a stream's "
            f"{len(self._words)} words and leave state {self._state.x:#x}, expected "
            f"{rans.STATE_MIN:#x} after the last; the stream is damaged or the decoder lost sync"
        )
        if not self._conceal:
            raise DesyncError(text)
        self.damage = self.damage or text

    def report(self, name: str) -> str | None:
        """Describe the damage of the stream called ``name``; None for no damage.

        For a decoder that conceals, after :meth:`finish`.
        """
        if self.damage is None:
            return None
        return f"{name}: {self.concealed} of {self._asked} symbols concealed; {self.damage}"

    def _check_not_lost(self) -> None:
        if self._lost and not self._conceal:
            raise DesyncError(self._lost)

    def _why_stopped(self) -> str | None:
        if self._state.status == rans.ENDED:
            return (
                f"the stream holds {self._count} symbols, {self._asked} were expected; "
                "the stream is damaged or the decoder lost sync"
            )
        if self._state.status == rans.IMPOSSIBLE:
            return (
                f"symbol {self._count + 1} of the stream is outside its CDF table as no encoder "
                "writes it, in 7 nibbles at most and as few as will do; "
                "the stream is damaged or the decoder lost sync"
            )
        return None


def check_capacity(data: bytes, tables: CdfTables, counts: int | ArrayLike, name: str) -> None:
    """Refuse a stream that is too short for its symbols, whatever they are.

    The check is cheap, and is made before anything is allocated for the symbols: a forged header
    can declare a picture of any size.

    Args:
        data: the stream.
        tables: the tables that its symbols are coded with.
        counts: number of symbols: one number if their rows are not known yet, else ``[n]``, one
            number per row of ``tables``.
        name: name of the stream, for the message.

    Raises:
        BitstreamError: even if each symbol were the likeliest of its row, they would take more bits
            than ``data`` has.
    """
    per_row = np.asarray(counts, dtype=np.float64)
    least = tables.least_bits if per_row.ndim else np.min(tables.least_bits)
    bits, count = float((least * per_row).sum()), int(per_row.sum())
    words = len(data) // 4
    if bits > 32 * max(words - 1, 0) + _tolerance(count, bits, words):
        raise BitstreamError(
            f"the {name} stream has {len(data)} bytes, the {count} symbols of a picture of the "
            f"declared size take {math.ceil(bits / 8)} at least; the header is damaged or forged"
        )


# ---------------------------------------------------------------------- streams at first sight


def _longest(max_symbols: int) -> int:
    return min(8 + _MAX_SYMBOL_BYTES * max_symbols, MAX_STREAM_BYTES)


def _refusal(data: bytes, max_symbols: int) -> str | None:
    """Explain why ``data`` is no stream of at most ``max_symbols`` symbols; None if it may be."""
    if len(data) < 8 or len(data) % 4:
        return (
            f"a range-coded stream of {len(data)} bytes, expected a multiple of 4, at least 8; "
            "the stream is truncated or damaged"
        )
    if len(data) > _longest(max_symbols):
        return (
            f"a range-coded stream of {len(data)} bytes for {max_symbols} symbols, expected "
            f"{_longest(max_symbols)} bytes at most; the stream is not of this picture"
        )
    state = int.from_bytes(data[:8], "little")
    if not rans.STATE_MIN <= state < rans.STATE_MIN << 32:
        return (
            f"a range-coded stream starts with state {state:#x}, expected 2^31 to 2^63 - 1; "
            "the stream is damaged or was not written by this coder"
        )
    return None


def _tolerance(count: int, bits: float, words: int) -> float:
    """Return the largest difference between the symbols' ideal bits and the bits they used."""
    return 1 + _DRIFT_BITS * (min(count, bits) + words)
