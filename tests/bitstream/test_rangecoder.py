"""The range coder: against an independent reference, compressai, and hostile data."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import rans_reference
from hypothesis import given, settings
from hypothesis import strategies as st
from rans_reference import Row

from mpa_core.base.priors import GaussianConditional
from mpa_core.bitstream.rangecoder import CdfTables, RangeDecoder, RangeEncoder
from mpa_core.errors import BitstreamError, CheckpointError, DesyncError, MPAError

# Rows with the rarest and the likeliest interval, and with the likeliest escape.
ROWS = [
    Row([0, 1, 2, 65536], 0),
    Row([0, 1, 65536], -7),
    Row([0, 65535, 65536], 3),
    Row([0, 20000, 40000, 60000, 65536], -2),
]
TABLES = CdfTables(*rans_reference.arrays(ROWS))
FAR = 2**27
COMPRESSAI = Path(__file__).resolve().parent.parent / "golden" / "compressai.npz"


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


# ---------------------------------------------------------------------- wrong streams


@pytest.mark.parametrize("length", [0, 1, 4, 7, 9, 11])
def test_streams_of_impossible_length(length: int):
    with pytest.raises(BitstreamError, match=f"stream of {length} bytes, expected a multiple of 4"):
        RangeDecoder(bytes(length), 10)


def test_streams_too_long_for_the_picture():
    good = encode([0] * 3, [0] * 3, TABLES)
    with pytest.raises(BitstreamError, match="not of this picture"):
        RangeDecoder(good + bytes(400), 3)


@pytest.mark.parametrize("state", [0, 2**31 - 1, 2**63, 2**64 - 1])
def test_states_no_encoder_leaves(state: int):
    with pytest.raises(BitstreamError, match="starts with state"):
        RangeDecoder(state.to_bytes(8, "little"), 1)


def test_more_symbols_than_declared():
    decoder = RangeDecoder(encode([0] * 5, [3] * 5, TABLES), 5)
    assert decoder.decode([3, 3, 3], TABLES).tolist() == [0, 0, 0]
    with pytest.raises(BitstreamError, match="6 symbols asked of a stream declared to hold 5"):
        decoder.decode([3, 3, 3], TABLES)
    assert decoder.decode([3, 3], TABLES).tolist() == [0, 0]
    decoder.finish()


def test_reading_past_the_end_is_seen_and_final():
    data = encode([0, 1] * 20, [3] * 40, TABLES)
    decoder = RangeDecoder(data, 4000)
    with pytest.raises(DesyncError, match=r"the stream holds 4\d symbols, 4000 were"):
        decoder.decode([3] * 4000, TABLES)
    with pytest.raises(DesyncError, match=r"the stream holds 4\d symbols, 4000 were"):
        decoder.decode([3], TABLES)


def test_words_left_over_are_seen():
    data = encode([0, 1] * 20, [3] * 40, TABLES)
    decoder = RangeDecoder(data, 40)
    decoder.decode([3] * 30, TABLES)
    with pytest.raises(DesyncError, match=r"30 symbols account for \d of a stream's \d words"):
        decoder.finish()


def test_a_count_that_no_encoder_writes_is_refused():
    row, data = rans_reference.IMPOSSIBLE
    tables = CdfTables(*rans_reference.arrays([row]))
    assert rans_reference.decode(data, [0], [row])[1:] == (2**31, 0)
    with pytest.raises(DesyncError, match="outside its CDF table"):
        RangeDecoder(data, 10).decode([0], tables)


FUZZ = """
import numpy as np
import rans_reference
from mpa_core.base.priors import GaussianConditional
from mpa_core.bitstream.rangecoder import CdfTables, RangeDecoder, RangeEncoder
from mpa_core.errors import BitstreamError
from test_rangecoder import ROWS, TABLES

rng = np.random.default_rng(0)
outcomes = dict.fromkeys(("decoded", "refused", "agree"), 0)
for trial in range(200):
    words = int(rng.integers(2, 400))
    data = rng.integers(0, 256, 4 * words, dtype=np.uint8)
    kind = trial % 4
    if kind == 1:
        data[8:] = 0xFF  # counts without end
    elif kind == 2:
        data[8:] = rng.choice(np.array([0x00, 0xF0, 0xFF], np.uint8), len(data) - 8)
    elif kind == 3:  # a genuine stream, damaged
        n = 300
        index = rng.integers(0, len(ROWS), n)
        encoder = RangeEncoder()
        encoder.encode(rng.integers(-9, 9, n), index, TABLES)
        data = np.frombuffer(encoder.finish(), np.uint8).copy()
        data[rng.integers(0, len(data))] ^= 1 << rng.integers(0, 8)
    data[7] &= 0x7F
    count = int(rng.integers(len(data) // 7 + 1, 40_000))
    indexes = rng.integers(0, len(ROWS), count)
    indexes[:8] = 3  # rarely an escape: values the reference can be compared with
    decoder = RangeDecoder(data.tobytes(), count)
    try:
        first = decoder.decode(indexes[:8], TABLES)
        symbols, _, _ = rans_reference.decode(data.tobytes(), indexes[:8].tolist(), ROWS)
        assert first.tolist() == symbols
        outcomes["agree"] += 1
        decoder.decode(indexes[8:], TABLES)
        decoder.finish()
        outcomes["decoded"] += 1
    except BitstreamError:
        outcomes["refused"] += 1
print(outcomes)
"""


def test_hostile_data_never_crashes(request: pytest.FixtureRequest):
    # In a process of its own, with glibc's heap checks on, where a crash shows as an exit status.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FUZZ],
        cwd=request.path.parent,
        env={"PYTHONPATH": ":".join([str(request.path.parent), *sys.path]), "MALLOC_CHECK_": "3"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    outcomes = eval(done.stdout)
    assert outcomes["refused"] + outcomes["decoded"] == 200
    assert outcomes["agree"] > 20


@given(st.binary(min_size=8, max_size=200), st.integers(0, 3000), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_any_bytes_decode_or_are_refused(data: bytes, count: int, row: int):
    try:
        decoder = RangeDecoder(data, count)
        assert len(decoder.decode([row] * count, TABLES)) == count
        decoder.finish()
    except MPAError as error:
        assert isinstance(error, BitstreamError)


@given(coded(), st.integers(0, 2**31), st.sampled_from([0, 0, 1, 0x10, 0x80, 0xFF]))
@settings(max_examples=200, deadline=None)
def test_a_stream_is_accepted_if_an_encoder_writes_it(case, position: int, change: int):
    table, symbols, indexes = case
    tables = CdfTables(*rans_reference.arrays(table))
    data = bytearray(encode(symbols, indexes, tables))
    data[position % len(data)] ^= change
    try:
        found = decode(bytes(data), indexes, tables) if indexes else symbols
    except BitstreamError:
        assert change
    else:
        assert change == 0 or not indexes or encode(found, indexes, tables) == data


def forged(nibbles: list[int]) -> tuple[Row, bytes]:
    """A well-formed stream of one escape followed by these."""
    row = Row([0, 32768, 65536], 0)
    return row, rans_reference.write([(32768, 32768, 16), *((n, 1, 4) for n in nibbles)])


@pytest.mark.parametrize(
    "nibbles",
    [[8, *[1] * 8], [15, 0, *[1] * 15], [1, 0], [3, 1, 1, 0], [7, *[15] * 6, 0]],
    ids=str,
)
def test_escapes_that_no_encoder_writes(nibbles: list[int]):
    row, data = forged(nibbles)
    tables = CdfTables(*rans_reference.arrays([row]))
    assert rans_reference.decode(data, [0], [row])[1:] == (2**31, 0)
    with pytest.raises(DesyncError, match="symbol 1 of the stream is outside its CDF table"):
        RangeDecoder(data, 100).decode([0], tables)


@pytest.mark.parametrize("words", [2, 3, 40, 10_000])
@pytest.mark.parametrize("row", range(len(ROWS)))
def test_every_nibble_15(words: int, row: int):
    data = b"\xff" * 7 + b"\x7f" + b"\xff" * (4 * words - 8)
    decoder = RangeDecoder(data, 100_000)
    with pytest.raises(DesyncError):
        decoder.decode([row] * 100_000, TABLES)
        decoder.finish()


def test_of_a_cut_stream_every_symbol_is_decoded_that_its_words_determine():
    rng = np.random.default_rng(5)
    symbols, rows = rng.integers(-9, 9, 400), rng.integers(0, len(ROWS), 400)
    data = encode(symbols, rows, TABLES)
    for length in range(8, len(data), 4):
        decoder = RangeDecoder(data[:length], 400, conceal=True)
        found = decoder.decode(rows, TABLES)
        kept = 400 - decoder.concealed
        assert found[:kept].tolist() == symbols[:kept].tolist() and not found[kept:].any()
        # What comes next depends on the word that is missing.
        longer = RangeDecoder(data[: length + 4], 400, conceal=True)
        longer.decode(rows, TABLES)
        assert longer.concealed <= decoder.concealed
