"""Concealment: what a damaged stream still holds, zeros for the rest, and a word about it."""

from __future__ import annotations

import numpy as np
import pytest
import rans_reference
from hypothesis import given, settings
from hypothesis import strategies as st

from mpa_core.bitstream.rangecoder import CdfTables, RangeDecoder, RangeEncoder, check_capacity
from mpa_core.errors import BitstreamError, DesyncError

SCALES = np.geomspace(0.5, 40, 16)


def gaussian_tables() -> CdfTables:
    """Rows as a trained codec has them: a peak of any width, the smallest symbol at its far end."""
    rows, lengths, offsets = [], [], []
    for scale in SCALES:
        reach = int(np.ceil(4 * scale))
        density = np.exp(-0.5 * (np.arange(-reach, reach + 1) / scale) ** 2)
        widths = np.maximum(np.floor(density / density.sum() * 65000), 1).astype(int)
        rows.append([0, *np.cumsum(widths).tolist(), 65536])
        lengths.append(len(rows[-1]))
        offsets.append(-reach)
    table = np.zeros((len(rows), max(lengths)), int)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return CdfTables(table, lengths, offsets)


TABLES = gaussian_tables()


def coded(count: int, seed: int = 0) -> tuple[bytes, np.ndarray, np.ndarray]:
    """A stream of ``count`` symbols, a few far outside their row, and what it was made of."""
    rng = np.random.default_rng(seed)
    indexes = rng.integers(0, len(SCALES), count)
    symbols = np.rint(rng.normal(size=count) * SCALES[indexes]).astype(np.int32)
    far = rng.random(count) < 0.01
    symbols[far] = rng.integers(-3000, 3000, far.sum())
    encoder = RangeEncoder()
    encoder.encode(symbols, indexes, TABLES)
    return encoder.finish(), symbols, indexes


def bits_of(symbols: np.ndarray, indexes: np.ndarray) -> np.ndarray:
    """What each symbol takes, by its probability."""

    def bits(symbol: np.ndarray, row: np.ndarray) -> float:
        widths = TABLES.operations(symbol[None], row[None]) >> 16
        return float(np.where(widths, 16 - np.log2(np.maximum(widths, 1)), 4).sum())

    return np.array([bits(*pair) for pair in zip(symbols, indexes, strict=True)])


def conceal(data: bytes, indexes: np.ndarray, step: int) -> tuple[np.ndarray, RangeDecoder]:
    decoder = RangeDecoder(data, len(indexes), conceal=True)
    parts = [
        decoder.decode(indexes[start : start + step], TABLES)
        for start in range(0, len(indexes), step)
    ]
    decoder.finish()
    return np.concatenate(parts), decoder


@pytest.mark.parametrize("count", [1, 2, 3, 100, 40_000])
def test_a_whole_stream_is_decoded_as_ever(count: int):
    data, symbols, indexes = coded(count)
    found, decoder = conceal(data, indexes, 7000)
    assert found.tolist() == symbols.tolist()
    assert (decoder.damage, decoder.concealed, decoder.report("y")) == (None, 0, None)


@pytest.mark.parametrize("step", [50, 1000, 4000])
def test_every_truncation_keeps_its_beginning(step: int):
    data, symbols, indexes = coded(4000)
    bits = np.cumsum(bits_of(symbols, indexes))
    for length in range(0, len(data), 1 if step == 4000 else 97):
        found, decoder = conceal(data[:length], indexes, step)
        kept = len(symbols) - decoder.concealed
        assert (found[kept:] == 0).all()
        assert found[:kept].tolist() == symbols[:kept].tolist()
        # Nearly all that the bytes hold is used: a symbol, and the word that is not whole.
        held = 32 * (length // 4) - 64
        assert bits[kept] >= held - 1
        assert f"{decoder.concealed} of 4000 symbols concealed" in decoder.report("y")


def test_every_flipped_byte_keeps_what_comes_before():
    data, symbols, indexes = coded(1500)
    bits = np.cumsum(bits_of(symbols, indexes))
    unseen = 0
    for position in range(len(data)):
        for mask in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[position] ^= mask
            found, decoder = conceal(bytes(damaged), indexes, 1500)
            # What was decoded before the word was read is right.
            before = int(np.searchsorted(bits, 32 * (position // 4) - 64))
            assert (found[:before] == symbols[:before]).all()
            unseen += decoder.damage is None
    # All but what only turns a symbol into one as likely, which the checksum of the symbols sees.
    assert unseen < 0.02 * 3 * len(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "a range-coded stream of 0 bytes"),
        (bytes(7), "a range-coded stream of 7 bytes"),
        (bytes(40), "starts with state 0x0"),
        (b"\xff" * 40, "starts with state 0xffffffffffffffff"),
    ],
)
def test_nothing_to_keep(data: bytes, expected: str):
    indexes = np.zeros(20_000, int)
    found, decoder = conceal(data, indexes, 9000)
    assert not found.any() and decoder.concealed == 20_000
    assert expected in decoder.report("z") and "20000 of 20000 symbols" in decoder.report("z")


def test_a_stream_too_long_for_the_picture():
    data, symbols, indexes = coded(50)
    found, decoder = conceal(data + bytes(1000), indexes, 50)
    assert found.tolist() == symbols.tolist()
    assert "not of this picture" in decoder.damage


def test_an_impossible_symbol_conceals_from_there_on():
    row, data = rans_reference.IMPOSSIBLE
    tables = CdfTables(*rans_reference.arrays([row]))
    decoder = RangeDecoder(data, 100, conceal=True)
    assert not decoder.decode([0] * 60, tables).any()
    assert not decoder.decode([0] * 40, tables).any()
    decoder.finish()
    assert "100 of 100 symbols concealed; symbol " in decoder.report("z")
    assert "outside its CDF table" in decoder.damage


def test_wrong_arguments_stay_errors():
    data, _, indexes = coded(10)
    decoder = RangeDecoder(data, 10, conceal=True)
    with pytest.raises(BitstreamError, match="11 symbols asked"):
        decoder.decode([*indexes, 0], TABLES)
    with pytest.raises(BitstreamError, match="table indexes"):
        decoder.decode([99], TABLES)


@given(st.binary(max_size=300), st.integers(0, 3000), st.integers(1, 3000))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_decoded(data: bytes, count: int, step: int):
    found, decoder = conceal(data, np.full(max(count, 1), 3), step)
    assert len(found) == max(count, 1)
    assert decoder.damage or not decoder.concealed


# ---------------------------------------------------------------------- capacity


def test_capacity_is_what_the_likeliest_symbols_take():
    # 65535 of 65536: 2.2e-5 bits a symbol.
    tables = CdfTables([[0, 65535, 65536], [0, 32768, 65536]], [3, 3], [0, 0])
    assert tables.least_bits.tolist() == pytest.approx([2.2014e-5, 1.0], rel=1e-4)
    data = bytes(16)  # 96 bits besides the state's own 32
    check_capacity(data, tables, 4_000_000, "y")
    with pytest.raises(
        BitstreamError, match=r"the y stream has 16 bytes, the 6000000 symbols .* 17"
    ):
        check_capacity(data, tables, 6_000_000, "y")
    check_capacity(data, tables, [1_000_000, 70], "z")
    with pytest.raises(BitstreamError, match="the z stream has 16 bytes"):
        check_capacity(data, tables, [1_000_000, 100], "z")


@pytest.mark.parametrize("count", [0, 1, 3, 70, 5000, 300_000])
@pytest.mark.parametrize("row", [0, 1])
def test_capacity_never_refuses_what_an_encoder_wrote(count: int, row: int):
    tables = CdfTables([[0, 65535, 65536], [0, 40000, 65536]], [3, 3], [0, 0])
    encoder = RangeEncoder()
    encoder.encode(np.zeros(count, int), np.full(count, row), tables)
    data = encoder.finish()
    check_capacity(data, tables, [count, 0] if row == 0 else [0, count], "y")
    check_capacity(data, tables, count, "y")
    # And is exact to a word: with one less the last symbols could not be there.
    if count >= 70 and row == 1:
        with pytest.raises(BitstreamError):
            check_capacity(data[:-12], tables, [0, count], "y")


def test_a_strict_decoder_of_a_cut_stream_stays_lost():
    data, _, indexes = coded(4000)
    decoder = RangeDecoder(data[: len(data) // 8 * 4], 4000)
    with pytest.raises(DesyncError):
        decoder.decode(indexes, TABLES)
    with pytest.raises(DesyncError):
        decoder.finish()
