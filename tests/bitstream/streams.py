"""Tables, symbols for them, and streams, for the tests of the range coder."""

from __future__ import annotations

import numpy as np
import rans_reference
from hypothesis import strategies as st
from rans_reference import Row

from mpa_core.bitstream.rangecoder import CdfTables, RangeDecoder, RangeEncoder

# Rows with the rarest and the likeliest interval, and with the likeliest escape.
ROWS = [
    Row([0, 1, 2, 65536], 0),
    Row([0, 1, 65536], -7),
    Row([0, 65535, 65536], 3),
    Row([0, 20000, 40000, 60000, 65536], -2),
]
TABLES = CdfTables(*rans_reference.arrays(ROWS))
FAR = 2**27


@st.composite
def rows(draw) -> Row:
    inner = draw(st.sets(st.integers(1, 65535), min_size=1, max_size=12))
    return Row([0, *sorted(inner), 65536], draw(st.integers(-(2**30) + 1, 2**30 - 1)))


@st.composite
def coded(draw, max_size: int = 60) -> tuple[list[Row], list[int], list[int]]:
    """(tables, symbols, indexes); symbols inside and, nearer or farther, outside their row."""
    table = draw(st.lists(rows(), min_size=1, max_size=4))
    indexes = draw(st.lists(st.integers(0, len(table) - 1), max_size=max_size))
    symbols = []
    for index in indexes:
        row = table[index]
        escape = len(row.cdf) - 2
        value = draw(
            st.integers(-3, escape + 3) | st.sampled_from([-FAR, FAR + escape - 1, -40, 5000])
        )
        symbols.append(row.offset + value)
    return table, symbols, indexes


def encode(symbols, indexes, tables: CdfTables, cuts=()) -> bytes:
    encoder = RangeEncoder()
    parts = np.split(np.asarray(symbols, np.int32), cuts)
    for part, index in zip(parts, np.split(np.asarray(indexes, np.int32), cuts), strict=True):
        encoder.encode(part, index, tables)
    return encoder.finish()


def decode(data: bytes, indexes, tables: CdfTables, cuts=()) -> list[int]:
    decoder = RangeDecoder(data, len(indexes))
    parts = np.split(np.asarray(indexes, np.int32), cuts)
    out = np.concatenate([decoder.decode(part, tables) for part in parts])
    decoder.finish()
    assert out.dtype == np.int32
    return out.tolist()
