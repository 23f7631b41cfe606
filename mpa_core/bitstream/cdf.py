"""CDF tables of the range coder: checked once, so that the native coder can trust them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mpa_core.errors import BitstreamError, CheckpointError

PRECISION = 16
"""Bits of a probability: a CDF row runs from 0 to 65536."""
ESCAPE_LIMIT = 2**27
"""Symbols reach this far outside their table: seven nibbles of bypass, one sign bit among them."""
NIBBLE = 4
"""Bits of the units in which a symbol outside its table is coded."""

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
        bits[self._first + self._escape] += NIBBLE  # the nibble that counts the nibbles
        self._bits = bits
        self.least_bits: NDArray[np.float64] = np.minimum.reduceat(bits, self._first)
        """``[n]``: what the likeliest symbol of each row takes; more than 0."""

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

    def bits(
        self, symbols: NDArray[Any], indexes: Int32Array
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Bits that coding each symbol takes, and which are escapes.

        Infinity for a symbol further outside its row than the coder can express.
        """
        value = symbols.astype(np.int64) - self._offset[indexes]
        escape_value = self._escape[indexes]
        escaped = (value < 0) | (value >= escape_value)
        interval = np.where(escaped, escape_value, value)
        bits: NDArray[np.float64] = self._bits[self._first[indexes] + interval]
        if escaped.any():
            value, escape_value = value[escaped], escape_value[escaped]
            raw = np.where(value < 0, -2 * value - 1, 2 * (value - escape_value))
            # frexp's exponent is the bit length of an integer, exactly.
            nibbles = -(-np.frexp(raw.astype(np.float64))[1] // NIBBLE)
            bits[escaped] += np.where(raw < 2 * ESCAPE_LIMIT, NIBBLE * nibbles, np.inf)
        return bits, escaped

    def too_far(self, symbol: int, index: int) -> str:
        """What to say of a symbol that takes infinitely many :meth:`bits`."""
        value, escape = symbol - self.offsets[index], self.lengths[index] - 2
        outside = -value if value < 0 else value - escape
        return (
            f"symbol {symbol} is {outside} outside its CDF table, the coder reaches "
            f"{ESCAPE_LIMIT - 1}; the latents diverged or the stream is damaged"
        )

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


def fits_int32(array: NDArray[Any]) -> bool:
    """Whether every number of ``array``, which is not empty, is one of 32 bits."""
    return int(array.min()) >= -(2**31) and int(array.max()) < 2**31


def _integers(values: ArrayLike, name: str, ndim: int) -> NDArray[np.int64]:
    array = np.asarray(values)
    whole = np.issubdtype(array.dtype, np.integer)
    if array.ndim != ndim or not whole or not array.size or not fits_int32(array):
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
