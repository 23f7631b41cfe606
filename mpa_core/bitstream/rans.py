"""The two loops of the rANS coder, compiled (``_rans.c``) or, without a compiler, in Python.

They work on operations, words and checked tables; pictures and errors are the business of
:mod:`.rangecoder`. The compiled loops are plain C called by ctypes rather than an extension module:
one build serves every Python version, no library is needed at run time, and other threads run
meanwhile.
"""

from __future__ import annotations

import ctypes
import warnings

import numpy as np

from mpa_core.bitstream import rans_python
from mpa_core.bitstream.cdf import CdfTables, Int32Array, UInt32Array
from mpa_core.bitstream.compiled import compiled_file

STATE_MIN = 2**31
"""Smallest state in use; the largest is 2^63 - 1. The encoder starts with this one, at a stream's
end."""
DECODED, ENDED, IMPOSSIBLE = range(3)
"""Outcomes of :func:`decode`: all symbols decoded, no more words, or an escape that no encoder
writes (more than 7 nibbles, or more than the value needs)."""


class State(ctypes.Structure):
    """State of a decoder between calls."""

    _fields_ = (
        ("x", ctypes.c_uint64),
        ("position", ctypes.c_int64),
        ("status", ctypes.c_int32),
    )
    x: int
    position: int
    """Index of the next word."""
    status: int


def _load() -> ctypes.CDLL | None:
    file = compiled_file()
    if file is None:
        warnings.warn(
            "mpa-core was installed without its compiled range coder, which makes it slower; "
            "install a wheel, or a C compiler and then mpa-core again",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    library = ctypes.CDLL(file)
    words = np.ctypeslib.ndpointer(np.uint32, ndim=1, flags="C")
    integers = np.ctypeslib.ndpointer(np.int32, ndim=1, flags="C")
    places = np.ctypeslib.ndpointer(np.int64, ndim=1, flags="C")
    size = ctypes.c_int64
    library.mpa_rans_encode.restype = size
    library.mpa_rans_encode.argtypes = [words, size, words]
    library.mpa_rans_decode.restype = size
    library.mpa_rans_decode.argtypes = [
        *(ctypes.POINTER(State), words, size, integers, size),
        *(words, places, integers, integers, integers),
    ]
    return library


_library = _load()
COMPILED = _library is not None
"""Whether the compiled loops are in use."""


def encode(operations: UInt32Array) -> UInt32Array:
    """Return the words of a stream.

    Args:
        operations: ``[n]``, in decoding order: ``start | width << 16`` of an interval of 65536, or,
            with width 0, the nibble ``start``.
    """
    words = np.empty(len(operations) + 2, np.uint32)
    if _library is None:
        start = rans_python.encode(operations, words)
    else:
        start = _library.mpa_rans_encode(operations, len(operations), words)
    return words[start:]


def decode(
    state: State, words: UInt32Array, rows: Int32Array, tables: CdfTables
) -> tuple[Int32Array, int]:
    """Decode the next symbols, one for each of ``rows``.

    Args:
        state: its ``x`` is at least 2^31 before the first symbol; it advances with what is read.
        words: ``[n]``, all words of the stream.
        rows: ``[m]``, each the number of a row, which the compiled loop does not check.
        tables: the tables that ``rows`` refer to.

    Returns:
        ``[m]`` symbols, and how many of them the stream holds. The others are 0, and the state's
        status says why.
    """
    symbols = np.zeros(len(rows), np.int32)
    if _library is None:
        done = rans_python.decode(state, words, rows, tables, symbols)
    else:
        done = _library.mpa_rans_decode(
            *(ctypes.byref(state), words, len(words), rows, len(rows)),
            *(tables.intervals, tables.first, tables.escape, tables.offset, symbols),
        )
    return symbols, done
