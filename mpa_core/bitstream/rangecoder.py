"""Range coding of integer symbols: a safe, total interface over compressai's rANS coder.

The native coder trusts its caller. It loses memory safety when a stream holds fewer than three
coder operations, divides by zero on a table row of one interval, never returns from a symbol 2^27
or more outside its table, and reads 32-bit words through a bare pointer without looking for the
end. Everything it is handed here has been checked, so that neither a caller nor a hostile file
gets there. Streams are byte for byte those of compressai, see ``docs/spec/bitstream.md``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mpa_core.compressai_parts import BufferedRansEncoder, RansDecoder
from mpa_core.errors import BitstreamError, CheckpointError, DesyncError

PRECISION = 16
"""Bits of a probability: a CDF row runs from 0 to 65536."""
MAX_STREAM_BYTES = 2**26
"""Longest stream we decode: below it no counter of the native decoder can overflow."""
ESCAPE_LIMIT = 2**27
"""Symbols reach this far outside their table: seven nibbles of bypass, one sign bit among them."""

_STATE_MIN = 2**31
_NIBBLE = 4
_NIBBLE_MAX = 15
_BLOCK = 16384
# 16 bits for the escape interval and 8 nibbles (the count and 7 of value) are 48 bits; the seventh
# byte is more than the rounding below and the state at the end can add.
_MAX_SYMBOL_BYTES = 7
# A symbol changes the state by its probability to within a factor 1 +- 2^-15 (the division by
# 65536 is rounded), a refill likewise: together at most 8.9e-5 bits.
_DRIFT_BITS = 1e-4
_ESCAPE_WORDS = 17

Int32Array = NDArray[np.int32]
_Native = tuple[list[int], list[list[int]], list[int], list[int]]


class CdfTables:
    """Checked CDF tables, ready for the native coder.

    Row i covers the symbols ``offset[i]`` to ``offset[i] + cdf_length[i] - 3``; its last interval
    is the escape, after which a symbol outside that range is coded in plain nibbles.

    Args:
        quantized_cdf: ``[n, L]`` integers; row i is valid up to ``cdf_length[i]``, strictly
            increasing from 0 to 65536.
        cdf_length: ``[n]`` integers, 3 to L.
        offset: ``[n]`` integers within 2^30: the smallest symbol of each row.

    Raises:
        CheckpointError: tables that cannot be coded with. They come from a checkpoint.
    """

    def __init__(self, quantized_cdf: ArrayLike, cdf_length: ArrayLike, offset: ArrayLike) -> None:
        cdf = _integers(quantized_cdf, "quantized_cdf", 2)
        length = _integers(cdf_length, "cdf_length", 1)
        offsets = _integers(offset, "offset", 1)
        rows, columns = cdf.shape
        if not rows == len(length) == len(offsets):
            raise CheckpointError(
                f"CDF tables: {rows} rows, {len(length)} lengths and {len(offsets)} offsets, "
                "expected as many of each; the checkpoint is damaged"
            )
        _refuse_rows((length < 3) | (length > columns), f"has a length outside 3 to {columns}")
        _refuse_rows((offsets <= -(2**30)) | (offsets >= 2**30), "has an offset beyond 2^30")
        inside = np.arange(columns - 1) < (length - 1)[:, None]
        width = np.diff(cdf, axis=1)
        ends = cdf[np.arange(rows), length - 1]
        _refuse_rows(
            (cdf[:, 0] != 0) | (ends != 1 << PRECISION) | ((width <= 0) & inside).any(axis=1),
            "does not rise strictly from 0 to 65536",
        )
        self.rows: list[list[int]] = [row[:n].tolist() for row, n in zip(cdf, length, strict=True)]
        self.lengths: list[int] = length.tolist()
        self.offsets: list[int] = offsets.tolist()
        self._offset, self._escape = offsets, length - 2
        self._first = np.cumsum(length - 1) - (length - 1)
        bits = PRECISION - np.log2(width[inside])
        bits[self._first + self._escape] += _NIBBLE  # the nibble that counts the nibbles
        self._bits = bits

    def __len__(self) -> int:
        return len(self.rows)

    def check_indexes(self, indexes: ArrayLike) -> Int32Array:
        """``indexes`` as a flat int32 array, each the number of a row; else a BitstreamError."""
        array = np.asarray(indexes)
        if array.size and not np.issubdtype(array.dtype, np.integer):
            raise BitstreamError(f"table indexes of type {array.dtype}, expected integers")
        if array.size and not 0 <= int(array.min()) <= int(array.max()) < len(self):
            raise BitstreamError(
                f"table indexes run from {array.min()} to {array.max()}, "
                f"expected 0 to {len(self) - 1}: one per row of the tables"
            )
        return np.ascontiguousarray(array, dtype=np.int32).reshape(-1)

    def cost(self, symbols: NDArray[Any], indexes: Int32Array) -> tuple[float, int]:
        """Bits that coding ``symbols`` takes, and how many of them are escapes.

        Raises:
            BitstreamError: a symbol further outside its row than the coder can express.
        """
        value = symbols.astype(np.int64) - self._offset[indexes]
        escape_value = self._escape[indexes]
        escaped = (value < 0) | (value >= escape_value)
        interval = np.where(escaped, escape_value, value)
        bits = float(self._bits[self._first[indexes] + interval].sum())
        count = int(np.count_nonzero(escaped))
        if count:
            value, escape_value = value[escaped], escape_value[escaped]
            raw = np.where(value < 0, -2 * value - 1, 2 * (value - escape_value))
            if int(raw.max()) >= 2 * ESCAPE_LIMIT:
                worst = int(np.argmax(raw))
                raise BitstreamError(
                    f"symbol {symbols[escaped][worst]} is {raw[worst] // 2} outside its CDF table, "
                    f"the coder reaches {ESCAPE_LIMIT - 1}; the latents diverged or the stream is "
                    "damaged"
                )
            # frexp's exponent is the bit length of an integer, exactly.
            nibbles = -(-np.frexp(raw.astype(np.float64))[1] // _NIBBLE)
            bits += _NIBBLE * int(nibbles.sum())
        return bits, count

    def native(self, indexes: Int32Array) -> _Native:
        """Arguments of the native coder: the indexes and only those rows that they name.

        The binding copies the rows at every call; a call rarely needs the long ones.
        """
        used = np.flatnonzero(np.bincount(indexes, minlength=len(self)))
        remap = np.zeros(len(self), dtype=np.int32)
        remap[used] = np.arange(len(used), dtype=np.int32)
        rows = used.tolist()
        return (
            remap[indexes].tolist(),
            [self.rows[i] for i in rows],
            [self.lengths[i] for i in rows],
            [self.offsets[i] for i in rows],
        )


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
        if not _fits_int32(flat):
            raise BitstreamError(
                f"symbols run from {flat.min()} to {flat.max()}, expected 32-bit integers; "
                "the latents diverged"
            )
        tables.cost(flat, rows)
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
      (:meth:`CdfTables.cost`) and compared, every block, with what the stream holds; so before
      each block they have read at most W words past the end, and a block adds half a word each.

    So ``16 W + 17 (E + 1) + drift`` zero words are safe while E counts all escapes so far plus the
    symbols of the next block. Room is made for one escape per word of data; should a stream hold
    more, a decoder with more room takes over and reads again from the start.

    Args:
        data: the stream.
        max_symbols: how many symbols it holds; asking for more is an error.

    Raises:
        BitstreamError: ``data`` is no stream of at most ``max_symbols`` symbols.
    """

    def __init__(self, data: bytes, max_symbols: int) -> None:
        if len(data) < 8 or len(data) % 4:
            raise BitstreamError(
                f"a range-coded stream of {len(data)} bytes, expected a multiple of 4, at least 8; "
                "the stream is truncated or damaged"
            )
        longest = min(8 + _MAX_SYMBOL_BYTES * max_symbols, MAX_STREAM_BYTES)
        if len(data) > longest:
            raise BitstreamError(
                f"a range-coded stream of {len(data)} bytes for {max_symbols} symbols, expected "
                f"{longest} bytes at most; the stream is not of this picture"
            )
        state = int.from_bytes(data[:8], "little")
        if not _STATE_MIN <= state < _STATE_MIN << 32:
            raise BitstreamError(
                f"a range-coded stream starts with state {state:#x}, expected 2^31 to 2^63 - 1; "
                "the stream is damaged or was not written by this coder"
            )
        self._data = bytes(data)
        self._words = len(data) // 4
        self._available = math.log2(state) - 31 + 32 * (self._words - 2)
        self._max_symbols = max_symbols
        self._count = 0
        self._escapes = 0
        self._bits = 0.0
        self._lost: str | None = None
        self._history: list[tuple[Int32Array, CdfTables]] = []
        self._make_room(_BLOCK + self._words)

    def decode(self, indexes: ArrayLike, tables: CdfTables) -> Int32Array:
        """The next symbols, flat, one per entry of ``indexes``, coded with that row of ``tables``.

        Raises:
            BitstreamError: an index has no row, or more than ``max_symbols`` symbols are asked for.
            DesyncError: the stream ended before the symbols did, or a symbol is impossible: the
                stream is damaged, or these are not the indexes it was encoded with.
        """
        if self._lost:
            # What was read is not accounted for: reading on would not be safe.
            raise DesyncError(self._lost)
        rows = tables.check_indexes(indexes)
        if self._count + len(rows) > self._max_symbols:
            raise BitstreamError(
                f"{self._count + len(rows)} symbols asked of a stream declared to hold "
                f"{self._max_symbols}"
            )
        out = np.empty(len(rows), dtype=np.int32)
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            out[start : start + _BLOCK] = self._decode_block(block, tables)
        return out

    def finish(self) -> None:
        """Check that the decoded symbols account for the whole stream, no more and no less.

        To the bit or so that the coder's own rounding leaves open; a checksum of the symbols says
        the rest. It holds for every stream whose encoder was given exactly these symbols.

        Raises:
            DesyncError: words are left over, or were read past the end.
        """
        if abs(self._bits - self._available) > self._tolerance:
            raise DesyncError(
                f"{self._count} symbols account for {self._bits:.0f} bits of a stream of "
                f"{self._available:.0f}; the stream is damaged or the decoder lost sync"
            )

    @property
    def _tolerance(self) -> float:
        return 1 + _DRIFT_BITS * self._count

    def _decode_block(self, rows: Int32Array, tables: CdfTables) -> Int32Array:
        if self._escapes + len(rows) > self._room:
            self._make_room(4 * (self._escapes + len(rows)))
        symbols = np.array(self._native.decode_stream(*tables.native(rows)), dtype=np.int32)
        if self._room < self._max_symbols:
            self._history.append((rows.copy(), tables))  # the caller may write to its array
        self._count += len(rows)
        try:
            bits, escapes = tables.cost(symbols, rows)
        except BitstreamError as error:
            self._lost = str(error)
            raise DesyncError(self._lost) from error
        self._bits += bits
        self._escapes += escapes
        if self._bits > self._available + self._tolerance:
            self._lost = (
                f"the stream holds {self._available:.0f} bits, its first {self._count} symbols "
                f"took {self._bits:.0f}; the stream is damaged or the decoder lost sync"
            )
            raise DesyncError(self._lost)
        return symbols

    def _make_room(self, escapes: int) -> None:
        self._room = escapes = min(escapes, self._max_symbols)
        drift = math.ceil(_DRIFT_BITS * self._max_symbols / 16)
        padding = 16 * self._words + _ESCAPE_WORDS * (escapes + 1) + drift
        self._native = RansDecoder()
        self._native.set_stream(self._data + bytes(4 * padding))
        for rows, tables in self._history:
            self._native.decode_stream(*tables.native(rows))


# ---------------------------------------------------------------------- coder of tiny streams


def _operations(symbol: int, row: int, tables: CdfTables) -> list[tuple[int, int, int]]:
    """(start, width, bits) of the coder operations of one symbol, in decoding order."""
    cdf, escape = tables.rows[row], tables.lengths[row] - 2
    value = symbol - tables.offsets[row]
    if 0 <= value < escape:
        return [(cdf[value], cdf[value + 1] - cdf[value], PRECISION)]
    raw = -2 * value - 1 if value < 0 else 2 * (value - escape)
    count = -(-raw.bit_length() // _NIBBLE)
    nibbles = [count, *(raw >> (_NIBBLE * i) & _NIBBLE_MAX for i in range(count))]
    return [
        (cdf[escape], cdf[escape + 1] - cdf[escape], PRECISION),
        *((nibble, 1, _NIBBLE) for nibble in nibbles),
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


# ---------------------------------------------------------------------- checks of tables


def _fits_int32(array: NDArray[Any]) -> bool:
    return int(array.min()) >= -(2**31) and int(array.max()) < 2**31


def _integers(values: ArrayLike, name: str, ndim: int) -> NDArray[np.int64]:
    array = np.asarray(values)
    whole = np.issubdtype(array.dtype, np.integer)
    if array.ndim != ndim or not whole or not array.size or not _fits_int32(array):
        raise CheckpointError(
            f"CDF tables: {name} is {array.dtype} of shape {array.shape}, expected {ndim}-D "
            "32-bit integers; the checkpoint is damaged"
        )
    return array.astype(np.int64)


def _refuse_rows(wrong: NDArray[np.bool_], why: str) -> None:
    if wrong.any():
        raise CheckpointError(
            f"CDF tables: row {int(np.argmax(wrong))} {why}; the checkpoint is damaged"
        )
