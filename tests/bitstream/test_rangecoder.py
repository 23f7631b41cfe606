"""The range coder: against an independent reference, compressai, and wrong arguments."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import rans_reference
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import FAR, ROWS, TABLES, coded, decode, encode

from mpa_core.base.priors import GaussianConditional
from mpa_core.bitstream.rangecoder import CdfTables, RangeDecoder, RangeEncoder
from mpa_core.errors import BitstreamError, CheckpointError

COMPRESSAI = Path(__file__).resolve().parent.parent / "golden" / "compressai.npz"


# ---------------------------------------------------------------------- equality


@given(coded(), st.lists(st.integers(0, 60), max_size=3).map(sorted))
@settings(max_examples=150, deadline=None)
def test_equals_the_reference_and_round_trips(case, cuts):
    table, symbols, indexes = case
    tables = CdfTables(*rans_reference.arrays(table))
    data = encode(symbols, indexes, tables, cuts)
    assert data == rans_reference.encode(symbols, indexes, table)
    assert decode(data, indexes, tables, cuts) == symbols
    assert rans_reference.decode(data, indexes, table) == (symbols, 2**31, 0)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("row", range(len(ROWS)))
def test_few_symbols(count: int, row: int):
    # With fewer than three operations compressai itself writes outside its buffer.
    for value in range(-2, len(ROWS[row].cdf)):
        symbols, indexes = [ROWS[row].offset + value] * count, [row] * count
        data = encode(symbols, indexes, TABLES)
        assert data == rans_reference.encode(symbols, indexes, ROWS)
        assert len(data) >= 8
        assert decode(data, indexes, TABLES) == symbols


def test_the_empty_stream():
    assert RangeEncoder().finish().hex() == "0000008000000000"


def test_an_encoder_can_be_used_again():
    encoder = RangeEncoder()
    streams = []
    for count in (2, 2, 5, 5, 1, 1, 3, 3):
        encoder.encode([0] * count, [1] * count, TABLES)
        streams.append(encoder.finish())
    assert streams[::2] == streams[1::2]
    assert streams[0] == encode([0] * 2, [1] * 2, TABLES)


def test_equals_what_compressai_once_wrote():
    with np.load(COMPRESSAI) as stored:
        tables = CdfTables(
            *(stored[f"y_{name}"] for name in ("quantized_cdf", "cdf_length", "offset"))
        )
        symbols, rows, stream = stored["symbols"], stored["rows"], stored["stream"].tobytes()
    assert np.abs(symbols).max() > 10**6  # escapes of up to six nibbles are among them
    cuts = [1, 2, 500, 3000]
    assert encode(symbols, rows, tables, cuts) == stream
    assert decode(stream, rows, tables, cuts) == symbols.tolist()


@pytest.fixture(scope="module")
def compressais():
    """compressai's coder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its dependencies
        return pytest.importorskip("compressai.ans")


@pytest.fixture(scope="module")
def gaussian() -> GaussianConditional:
    prior = GaussianConditional(np.geomspace(0.11, 256, 64).tolist())
    prior.update()
    return prior


def test_equals_compressai_on_a_real_table(gaussian: GaussianConditional, compressais):
    arrays = (gaussian._quantized_cdf, gaussian._cdf_length, gaussian._offset)
    tables = CdfTables(*arrays)
    assert len(tables) == 64
    rng = np.random.default_rng(0)
    indexes = rng.integers(0, 64, 40_000)
    scale = gaussian.scale_table.numpy()[indexes]
    symbols = np.rint(
        rng.normal(size=len(indexes)) * scale * rng.choice([1, 20], len(indexes), p=[0.99, 0.01])
    )
    symbols = symbols.astype(np.int32)
    native = [arrays[0].tolist(), arrays[1].tolist(), arrays[2].tolist()]
    expected = compressais.RansEncoder().encode_with_indexes(
        symbols.tolist(), indexes.tolist(), *native
    )
    cuts = [1, 2, 500, 30_000]
    assert encode(symbols, indexes, tables, cuts) == expected
    assert decode(expected, indexes, tables, cuts) == symbols.tolist()
    decoder = compressais.RansDecoder()
    assert decoder.decode_with_indexes(expected, indexes.tolist(), *native) == symbols.tolist()


@given(coded())
@settings(max_examples=100, deadline=None)
def test_equals_compressai(compressais, case):
    table, symbols, indexes = case
    if len(symbols) < 3:
        return  # there compressai writes outside its buffer
    cdf, lengths, offsets = rans_reference.arrays(table)
    found = encode(symbols, indexes, CdfTables(cdf, lengths, offsets))
    assert found == compressais.RansEncoder().encode_with_indexes(
        symbols, indexes, cdf.tolist(), lengths.tolist(), offsets.tolist()
    )


def test_streams_of_escapes():
    # 20 bits each, in calls whose index array the caller overwrites in between.
    tables, count = CdfTables([[0, 1, 65535, 65536]], [4], [0]), 60_000
    data = encode(np.full(count, 2), np.zeros(count, np.int32), tables)
    decoder = RangeDecoder(data, count)
    index = np.zeros(500, np.int32)
    for _ in range(count // 500):
        index[:] = 0
        assert decoder.decode(index, tables).tolist() == [2] * 500
        index[:] = 99
    decoder.finish()


def test_escapes_that_are_nearly_free():
    # Four bits each: eight of them per word.
    tables = CdfTables([[0, 1, 65536]], [3], [0])
    symbols = np.full(120_000, 1, np.int32)
    data = encode(symbols, np.zeros(120_000, np.int32), tables)
    assert len(data) < 61_000
    assert decode(data, np.zeros(120_000, np.int32), tables) == symbols.tolist()


# ---------------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize(
    ("cdf", "length", "offset", "expected"),
    [
        ([[0, 65536]], [2], [0], "row 0 has a length outside 3 to 2"),
        ([[0, 5, 65536]], [4], [0], "row 0 has a length outside 3 to 3"),
        ([[0, 5, 65536]], [-1], [0], "row 0 has a length"),
        ([[0, 5, 65536], [0, 5, 65535]], [3, 3], [0, 0], "row 1 does not rise"),
        ([[1, 5, 65536]], [3], [0], "does not rise"),
        ([[0, 5, 5, 65536]], [4], [0], "does not rise"),
        ([[0, 7, 5, 65536]], [4], [0], "does not rise"),
        ([[0, 5, 65536]], [3], [2**30], "offset beyond"),
        ([[0, 5, 65536]], [3], [2**31], "32-bit integers"),
        ([[0, 5, 65536]], [3], [0, 0], "1 rows, 1 lengths and 2 offsets"),
        ([[0, 0.5, 65536]], [3], [0], "expected 2-D 32-bit integers"),
        ([0, 5, 65536], [3], [0], "expected 2-D"),
        (np.zeros((0, 3), int), [], [], "expected 2-D"),
    ],
)
def test_wrong_tables(cdf, length, offset, expected: str):
    with pytest.raises(CheckpointError) as caught:
        CdfTables(cdf, length, offset)
    assert expected in str(caught.value)


def test_entries_behind_a_row_are_ignored():
    tables = CdfTables([[0, 5, 65536, -1, 3]], [3], [0])
    assert tables.intervals.tolist() == [5 << 16, 5 | (65536 - 5) << 16]
    assert (tables.first.tolist(), tables.escape.tolist()) == ([0], [1])


@pytest.mark.parametrize("index", [-1, len(ROWS), 2**31, 0.5])
def test_indexes_without_a_row(index):
    data = encode([0, 0, 0], [0, 0, 0], TABLES)
    with pytest.raises(BitstreamError, match="table indexes"):
        RangeEncoder().encode([0], [index], TABLES)
    with pytest.raises(BitstreamError, match="table indexes"):
        RangeDecoder(data, 3).decode(np.array([index]), TABLES)


@pytest.mark.parametrize(
    ("symbols", "expected"),
    [
        ([-FAR - 1], "outside its CDF table"),
        ([FAR + 2], "outside its CDF table"),
        ([2**31], "expected 32-bit integers"),
        (np.array([-(2**63)]), "expected 32-bit integers"),
        ([0.5], "round first"),
        ([float("nan")], "round first"),
        ([0, 0], "2 symbols but 1 table indexes"),
    ],
)
def test_symbols_that_cannot_be_coded(symbols, expected: str):
    with pytest.raises(BitstreamError) as caught:
        RangeEncoder().encode(symbols, [0], TABLES)
    assert expected in str(caught.value)


def test_the_farthest_symbols_can_be_coded():
    symbols = [-FAR, FAR + 1]
    data = encode(symbols, [0, 0], TABLES)
    assert decode(data, [0, 0], TABLES) == symbols
