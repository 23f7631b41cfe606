"""CDF tables of the range coder, checked once so that its loops can trust them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mpa_core.errors import BitstreamError, CheckpointError

PRECISION = 16
"""Bits of a probability: a CDF row runs from 0 to 65536."""
ESCAPE_LIMIT = 2**27
"""Limit on the distance of a symbol from its table: seven nibbles, with one bit for the sign."""
NIBBLE = 4
"""Bits of the units in which a symbol outside its table is coded."""

_NIBBLES = 7

Int32Array = NDArray[np.int32]
UInt32Array = NDArray[np.uint32]


class CdfTables:
    """Checked CDF tables, in the form that the coder's loops read.

    Row i covers the symbols ``offset[i]`` to ``offset[i] + cdf_length[i] - 3``; its last interval
    is the escape, after which a symbol outside that range is coded in plain nibbles.

    Args:
        quantized_cdf: ``[n, L]`` integers; row i is valid up to ``cdf_length[i]``, strictly
            increasing from 0 to 65536.
        cdf_length: ``[n]`` integers, 3 to L.
        offset: ``[n]`` integers within 2^30: the smallest symbol of each row.

    Attributes:
        intervals: uint32, the intervals of all rows one after the other, each ``start | width <<
            16``.
        first: ``[n]`` int64, the index in ``intervals`` at which each row begins.
        escape: ``[n]`` int32, the last interval of each row.
        offset: ``[n]`` int32.
        least_bits: ``[n]`` float64, bits of the likeliest symbol of each row; more than 0.

    Raises:
        CheckpointError: the tables, which come from a checkpoint, cannot be used for coding.
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
        intervals = cdf[:, :-1] | width << PRECISION
        bits = PRECISION - np.log2(width[inside])
        first = np.cumsum(length - 1) - (length - 1)
        bits[first + length - 2] += NIBBLE  # the nibble with the number of nibbles
        self.intervals: UInt32Array = _constant(intervals[inside], np.uint32)
        self.first: NDArray[np.int64] = _constant(first, np.int64)
        self.escape: Int32Array = _constant(length - 2, np.int32)
        self.offset: Int32Array = _constant(offsets, np.int32)
        self.least_bits: NDArray[np.float64] = np.minimum.reduceat(bits, first)

    def __len__(self) -> int:
        return len(self.first)

    def check_indexes(self, indexes: ArrayLike) -> Int32Array:
        """Check that each index is the number of a row, and return them as a flat int32 array.

        The result is always a copy, so that the caller's array may change after the check.

        Raises:
            BitstreamError: an index is no integer, or has no row.
        """
        array = np.asarray(indexes)
        if array.size and not np.issubdtype(array.dtype, np.integer):
            raise BitstreamError(f"table indexes of type {array.dtype}, expected integers")
        if array.size and not 0 <= int(array.min()) <= int(array.max()) < len(self):
            raise BitstreamError(
                f"table indexes run from {array.min()} to {array.max()}, "
                f"expected 0 to {len(self) - 1}: one per row of the tables"
            )
        return np.array(array, dtype=np.int32, order="C").reshape(-1)

    def operations(self, symbols: NDArray[Any], rows: Int32Array) -> UInt32Array:
        """Return the coder's operations for ``symbols``, in decoding order.

        Args:
            symbols: ``[n]`` 32-bit integers.
            rows: ``[n]``, each the number of a row.

        Returns:
            ``[m]`` uint32, as :func:`.rans.encode` takes them.

        Raises:
            BitstreamError: a symbol is farther outside its row than the coder reaches.
        """
        value = symbols.astype(np.int64) - self.offset[rows]
        last = self.escape[rows]
        escaped = np.flatnonzero((value < 0) | (value >= last))
        outside, last_of = value[escaped], last[escaped]
        value[escaped] = last_of
        own = self.intervals[self.first[rows] + value]
        if not len(escaped):
            return own
        raw = np.where(outside < 0, -2 * outside - 1, 2 * (outside - last_of))
        if raw.max() >= 2 * ESCAPE_LIMIT:
            far = int(np.argmax(raw >= 2 * ESCAPE_LIMIT))
            raise BitstreamError(
                f"symbol {symbols[escaped[far]]} is {(raw[far] + 1) // 2} outside its CDF table, "
                f"the coder reaches {ESCAPE_LIMIT - 1}; the latents diverged"
            )
        # frexp's exponent is the bit length of an integer, exactly.
        nibbles = -(-np.frexp(raw.astype(np.float64))[1] // NIBBLE)
        count = np.ones(len(rows), np.int64)
        count[escaped] += 1 + nibbles
        at = np.cumsum(count) - count
        found = np.empty(int(count.sum()), np.uint32)
        found[at] = own
        at = at[escaped] + 1
        found[at] = nibbles
        for i in range(_NIBBLES):
            longer = nibbles > i
            found[at[longer] + 1 + i] = raw[longer] >> (NIBBLE * i) & 15
        return found


def fits_int32(array: NDArray[Any]) -> bool:
    """Return whether every number of ``array``, which is not empty, fits 32 bits."""
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


def _constant(array: NDArray[Any], dtype: type) -> NDArray[Any]:
    array = np.ascontiguousarray(array, dtype)
    array.setflags(write=False)
    return array
