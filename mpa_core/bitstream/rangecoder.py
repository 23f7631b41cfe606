"""Range coding of integer symbols: a safe, total interface over compressai's rANS coder.

The native coder trusts its caller. It loses memory safety when a stream holds fewer than three
coder operations, divides by zero on a table row of one interval, never returns from a symbol 2^27
or more outside its table, and reads 32-bit words through a bare pointer without looking for the
end. Everything it is handed here has been checked, so that neither a caller nor a hostile file
gets there. Streams are byte for byte those of compressai, see ``docs/spec/bitstream.md``.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from mpa_core.bitstream.cdf import (
    ESCAPE_LIMIT,
    NIBBLE,
    PRECISION,
    CdfTables,
    Int32Array,
    fits_int32,
)
from mpa_core.compressai_parts import BufferedRansEncoder, RansDecoder
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
"""Longest stream we decode: below it no counter of the native decoder can overflow."""

_STATE_MIN = 2**31
_NIBBLE_MAX = 15
_BLOCK = 16384
# 16 bits for the escape interval and 8 nibbles (the count and 7 of value) are 48 bits; the seventh
# byte is more than the rounding below and the state at the end can add.
_MAX_SYMBOL_BYTES = 7
# The division by 65536 is rounded, so that a symbol of probability p changes the state by p to
# within a factor 1 +- (1 - p) 2^-15, a refill by 2^32 to within 1 +- 2^-15: of the bits that a
# symbol takes a share of 2^-15, and never more than 4.5e-5 bits per symbol and as much per word.
_DRIFT_BITS = 5e-5
_ESCAPE_WORDS = 17


class RangeEncoder:
    """Writes one stream, in as many calls as wanted; one encoder, one stream."""

    def __init__(self) -> None:
        self._native = BufferedRansEncoder()
        self._count = 0
        self._operations: list[tuple[int, int, int]] = []

    def encode(self, symbols: ArrayLike, indexes: ArrayLike, tables: CdfTables) -> None:
        """Append ``symbols``, each coded with the row of ``tables`` that its index names.

        Args:
            symbols: integers of any shape, flattened in C order.
            indexes: as many integers, each the number of a row.

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
        impossible = np.isinf(tables.bits(flat, rows)[0])
        if impossible.any():
            first = int(np.argmax(impossible))
            raise BitstreamError(tables.too_far(int(flat[first]), int(rows[first])))
        if self._count < 3:
            for symbol, row in zip(flat[:3].tolist(), rows[:3].tolist(), strict=True):
                self._operations += _operations(symbol, row, tables)
        self._count += len(flat)
        self._native.encode_with_indexes(flat.tolist(), *tables.native(rows))

    def finish(self) -> bytes:
        """The stream: at least 8 bytes, a multiple of 4. The encoder is empty afterwards."""
        # The native encoder allots one word per operation and writes two more than it emits. Three
        # operations of at most 16 bits emit one word at most, so they fit; fewer may not.
        if self._count < 3 and len(self._operations) < 3:
            data = _encode_operations(self._operations)
            self._native = BufferedRansEncoder()
        else:
            data = bytes(self._native.flush())
        self._count, self._operations = 0, []
        return data


class RangeDecoder:
    """Reads one stream of :class:`RangeEncoder` or of compressai, in as many calls as wanted.

    **Why it cannot read out of bounds.** The native decoder reads 32-bit words through a pointer,
    so it is given a copy of the stream followed by zero words that provably suffice. Let F be
    floor(log2) of its state. It starts in 31..62 (checked here); with valid tables a symbol lowers
    F by at most 16, a bypass nibble by exactly 4, and below 31 one word is read, which raises F by
    exactly 32. Hence S symbols and N nibbles read at most (31 + 16 S + 4 N) / 32 words. An escape
    reads count nibbles up to the first below 15, and at most 15 value nibbles per count nibble:

    * W words of data hold 8 W nibbles of 15. The one escape whose count they are reads at most
      15 W words after them.
    * In the zeros, a count reads at most 8 nibbles from the state before the first refill, whose
      lowest nibble, 0, ends it: at most 9 + 120 nibbles, with the symbol 532 bits, 17 words.
      Of those 8 at most 7 are left for the value, so that it stays below 2^28: it lies outside its
      row, and the escape is seen as one. (A longer value wraps and may look like any symbol.)
    * Other symbols cost what their probability says. That sum is known after the fact
      (:meth:`CdfTables.bits`) and compared, every block, with what the stream holds; so before
      each block they have read at most W words past the end, and a block adds half a word each.

    So ``16 W + 17 (E + 1) + drift`` zero words are safe while E counts all escapes so far plus the
    symbols of the next block. Room is made for one escape per word of data; should a stream hold
    more, a decoder with more room takes over and reads again from the start.

    Args:
        data: the stream.
        max_symbols: how many symbols it holds; asking for more is an error.
        conceal: make the best of a damaged stream. Symbols that it does not hold, or that come
            after its end was passed, are 0; nothing that the stream does wrong is an error, and
            :attr:`damage` and :attr:`concealed` say what happened. rANS decodes from front to
            back, so a stream cut short still gives its beginning; after a changed byte the symbols
            are wrong but possible ones, up to where they take more bits than there are.

    Attributes:
        damage: with ``conceal``, what is wrong with the stream as far as it was looked at (whole
            only after :meth:`finish`); None: nothing.
        concealed: how many symbols were replaced by 0.

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
        self._escapes = 0
        self._bits = 0.0
        self._history: list[tuple[Int32Array, CdfTables]] = []
        self._available = 0.0
        if not self._lost:
            state = int.from_bytes(data[:8], "little")
            self._data = bytes(data)
            self._words = len(data) // 4
            self._available = math.log2(state) - 31 + 32 * (self._words - 2)
            self._make_room(_BLOCK + self._words)

    def decode(self, indexes: ArrayLike, tables: CdfTables) -> Int32Array:
        """The next symbols, flat, one per entry of ``indexes``, coded with that row of ``tables``.

        Raises:
            BitstreamError: an index has no row, or more than ``max_symbols`` symbols are asked for.
            DesyncError: the stream ended before the symbols did, or a symbol is impossible: the
                stream is damaged, or these are not the indexes it was encoded with. Not with
                ``conceal``.
        """
        self._check_not_lost()
        rows = tables.check_indexes(indexes)
        if self._asked + len(rows) > self._max_symbols:
            raise BitstreamError(
                f"{self._asked + len(rows)} symbols asked of a stream declared to hold "
                f"{self._max_symbols}"
            )
        self._asked += len(rows)
        out = np.zeros(len(rows), dtype=np.int32)
        kept = 0
        for start in range(0, len(rows), _BLOCK):
            if self._lost:
                break
            symbols = self._decode_block(rows[start : start + _BLOCK], tables)
            out[start : start + len(symbols)] = symbols
            kept = start + len(symbols)
        self._check_not_lost()
        self.damage = self.damage or self._lost
        self.concealed += len(rows) - kept
        return out

    def finish(self) -> None:
        """Check that the decoded symbols account for the whole stream, no more and no less.

        To the bit or so that the coder's own rounding leaves open; a checksum of the symbols says
        the rest. It holds for every stream whose encoder was given exactly these symbols.

        Raises:
            DesyncError: words are left over, or were read past the end. Not with ``conceal``,
                where :attr:`damage` says so.
        """
        self._check_not_lost()
        if self._lost:
            return
        tolerance = _tolerance(self._count, self._bits, self._words)
        if abs(self._bits - self._available) <= tolerance:
            return
        text = (
            f"{self._count} symbols account for {self._bits:.0f} bits of a stream of "
            f"{self._available:.0f}; the stream is damaged or the decoder lost sync"
        )
        if not self._conceal:
            raise DesyncError(text)
        self.damage = self.damage or text

    def report(self, name: str) -> str | None:
        """With ``conceal``, after :meth:`finish`: what is wrong with the stream called ``name``."""
        if self.damage is None:
            return None
        return f"{name}: {self.concealed} of {self._asked} symbols concealed; {self.damage}"

    def _check_not_lost(self) -> None:
        if self._lost and not self._conceal:
            # What was read is not accounted for: reading on would not be safe.
            raise DesyncError(self._lost)

    def _decode_block(self, rows: Int32Array, tables: CdfTables) -> Int32Array:
        """The symbols that the stream holds, all of ``rows`` or, if it is lost there, fewer."""
        if self._escapes + len(rows) > self._room:
            self._make_room(4 * (self._escapes + len(rows)))
        symbols = np.array(self._native.decode_stream(*tables.native(rows)), dtype=np.int32)
        if self._room < self._max_symbols:
            self._history.append((rows.copy(), tables))  # the caller may write to its array
        bits, escaped = tables.bits(symbols, rows)
        total = self._bits + float(bits.sum())
        count = self._count + len(rows)
        if total > self._available + _tolerance(count, total, self._words):
            # Up to the end itself: beyond it, within the tolerance, zeros may have been read.
            good = int(np.searchsorted(self._bits + np.cumsum(bits), self._available, "right"))
            self._count += good
            if math.isinf(total):
                first = int(np.argmax(np.isinf(bits)))
                self._lost = tables.too_far(int(symbols[first]), int(rows[first]))
            else:
                self._lost = (
                    f"the stream holds {self._available:.0f} bits, its first {count} symbols "
                    f"took {total:.0f}; the stream is damaged or the decoder lost sync"
                )
            return symbols[:good]
        self._count, self._bits = count, total
        self._escapes += int(np.count_nonzero(escaped))
        return symbols

    def _make_room(self, escapes: int) -> None:
        self._room = escapes = min(escapes, self._max_symbols)
        drift = math.ceil(_DRIFT_BITS * self._max_symbols / 16)
        padding = 16 * self._words + _ESCAPE_WORDS * (escapes + 1) + drift
        self._native = RansDecoder()
        self._native.set_stream(self._data + bytes(4 * padding))
        for rows, tables in self._history:
            self._native.decode_stream(*tables.native(rows))


def check_capacity(data: bytes, tables: CdfTables, counts: int | ArrayLike, name: str) -> None:
    """Refuse a stream that is too short for its symbols, whatever they are.

    Cheap, and to be asked before anything is allocated for the symbols: a forged header can
    declare a picture of any size.

    Args:
        data: the stream.
        tables: what its symbols are coded with.
        counts: how many symbols; one number if their rows are not known yet, else ``[n]``, one
            number per row of ``tables``.
        name: of the stream, for the message.

    Raises:
        BitstreamError: even if each symbol were the likeliest of its row, they would take more bits
            than ``data`` has.
    """
    per_row = np.asarray(counts, dtype=np.float64)
    least = tables.least_bits if per_row.ndim else tables.least_bits.min()
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
    """Why ``data`` cannot be a stream of at most ``max_symbols`` symbols."""
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
    if not _STATE_MIN <= state < _STATE_MIN << 32:
        return (
            f"a range-coded stream starts with state {state:#x}, expected 2^31 to 2^63 - 1; "
            "the stream is damaged or was not written by this coder"
        )
    return None


def _tolerance(count: int, bits: float, words: int) -> float:
    """How far the bits that symbols take by their probabilities may be from those they used."""
    return 1 + _DRIFT_BITS * (min(count, bits) + words)


# ---------------------------------------------------------------------- coder of tiny streams


def _operations(symbol: int, row: int, tables: CdfTables) -> list[tuple[int, int, int]]:
    """(start, width, bits) of the coder operations of one symbol, in decoding order."""
    cdf, escape = tables.rows[row], tables.lengths[row] - 2
    value = symbol - tables.offsets[row]
    if 0 <= value < escape:
        return [(cdf[value], cdf[value + 1] - cdf[value], PRECISION)]
    raw = -2 * value - 1 if value < 0 else 2 * (value - escape)
    count = -(-raw.bit_length() // NIBBLE)
    nibbles = [count, *(raw >> (NIBBLE * i) & _NIBBLE_MAX for i in range(count))]
    return [
        (cdf[escape], cdf[escape + 1] - cdf[escape], PRECISION),
        *((nibble, 1, NIBBLE) for nibble in nibbles),
    ]


def _encode_operations(operations: list[tuple[int, int, int]]) -> bytes:
    """The rANS coder itself; the last operation goes first and the words come out backwards."""
    state, words = _STATE_MIN, b""
    for start, width, bits in reversed(operations):
        if state >= width << (63 - bits):
            words = (state & 0xFFFFFFFF).to_bytes(4, "little") + words
            state >>= 32
        state = (state // width << bits) + state % width + start
    return state.to_bytes(8, "little") + words
