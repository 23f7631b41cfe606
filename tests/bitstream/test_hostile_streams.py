"""Streams that no encoder wrote: refused, and never a crash."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import rans_reference
from hypothesis import given, settings
from hypothesis import strategies as st
from rans_reference import Row
from streams import ROWS, TABLES, coded, decode, encode

from mpa_core.bitstream.rangecoder import CdfTables, RangeDecoder
from mpa_core.errors import BitstreamError, DesyncError, MPAError


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
from mpa_core.bitstream.rangecoder import RangeDecoder, RangeEncoder
from mpa_core.errors import BitstreamError
from streams import ROWS, TABLES

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
