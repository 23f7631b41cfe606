"""The two loops of the rANS coder, compiled (``_rans.c``) or, without a compiler, in Python.

They know operations, words and checked tables, no pictures and no errors: :mod:`.rangecoder` does.
The compiled ones are plain C behind ctypes rather than functions of a module: one build serves
every Python, no library is needed at run time, and other threads go on while they work.
"""

from __future__ import annotations

import ctypes
import warnings

import numpy as np

from mpa_core.bitstream import rans_python
from mpa_core.bitstream.cdf import CdfTables, Int32Array, UInt32Array
from mpa_core.bitstream.compiled import compiled_file

STATE_MIN = 2**31
"""A state is from here to 2^63 - 1 when it is used; a stream begins, at its end, with this one."""
DECODED, ENDED, IMPOSSIBLE = range(3)
"""What a call of :func:`decode` ended with: all symbols, no more words, or an escape that no
encoder writes (more than 7 nibbles, or more than the value needs)."""


class State(ctypes.Structure):
    """Of a decoder, between calls."""

    _fields_ = (
        ("x", ctypes.c_uint64),
        ("position", ctypes.c_int64),
        ("status", ctypes.c_int32),
    )
    x: int
    position: int
    """Of the next word."""
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
"""Whether the loops are the compiled ones."""


def encode(operations: UInt32Array) -> UInt32Array:
    """The words of a stream.

    Args:
        operations: ``[n]``, in decoding order: ``start | width << 16``, of an interval of 65536;
            width 0: the nibble ``start``.
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
    """The next symbols, one for each of ``rows``, and how many the stream holds of them.

    Those it does not hold are 0, and the state's status says why.

    Args:
        state: its ``x`` at least 2^31 before the first symbol; what is read moves it on.
        words: ``[n]``, all of the stream.
        rows: ``[m]``, each the number of a row: the compiled loop does not look.
        tables: what ``rows`` are of.
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
