"""Metadata in chunks: the shorter of two ways, read with limits."""

from __future__ import annotations

import dataclasses
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_container import PLAIN

from mpa_core.bitstream.container import pack, unpack
from mpa_core.bitstream.metadata import (
    MAX_BYTES,
    Metadata,
    from_chunks,
    salvage_chunks,
    to_chunks,
)
from mpa_core.bitstream.parsed import parse_file
from mpa_core.errors import BitstreamError

PROFILE = b"a profile of which much is said twice, " * 20
RANDOM = bytes((i * i * 2654435761 >> 13) & 255 for i in range(300))


@given(
    st.builds(
        Metadata,
        st.none() | st.binary(min_size=1, max_size=99).map(lambda b: b * 7),
        st.none() | st.binary(min_size=1, max_size=99),
    ),
    st.booleans(),
)
def test_what_goes_in_comes_out(metadata: Metadata, compress: bool):
    chunks = to_chunks(metadata, compress=compress)
    assert from_chunks(chunks) == metadata
    file = pack(dataclasses.replace(PLAIN, chunks=chunks))
    assert from_chunks(unpack(file).chunks) == metadata
    assert sum(map(len, chunks.values())) <= sum(len(value or b"") for value in metadata)


def test_the_shorter_chunk_is_taken():
    chunks = to_chunks(Metadata(PROFILE, RANDOM))
    assert set(chunks) == {b"ICCZ", b"EXIF"}
    assert chunks[b"EXIF"] == RANDOM
    assert len(chunks[b"ICCZ"]) < 80
    assert zlib.decompress(chunks[b"ICCZ"]) == PROFILE
    assert set(to_chunks(Metadata(RANDOM, PROFILE))) == {b"ICCP", b"EXIZ"}


def test_uncompressed_if_asked():
    wanted = {b"ICCP": PROFILE, b"EXIF": PROFILE}
    assert to_chunks(Metadata(PROFILE, PROFILE), compress=False) == wanted


@pytest.mark.parametrize("metadata", [Metadata(), Metadata(b"", b"")])
def test_nothing_takes_no_chunk(metadata: Metadata):
    assert to_chunks(metadata) == {}


@pytest.mark.parametrize(("length", "name"), [(MAX_BYTES, b"ICCZ"), (MAX_BYTES + 1, b"ICCP")])
def test_the_limit_is_the_writers_too(length: int, name: bytes):
    value = bytes(length)
    (chunk,) = to_chunks(Metadata(value)).items()
    assert chunk[0] == name
    assert from_chunks(dict([chunk])).icc_profile == value


WHOLE = zlib.compress(PROFILE)
BOMB = zlib.compress(bytes(MAX_BYTES + 1), 9)
DAMAGED = [
    (b"", "ends inside its zlib stream of 0 bytes"),
    (WHOLE[:-1], "ends inside"),
    (WHOLE[:10], "ends inside"),
    (WHOLE + b"x", "1 bytes after its zlib stream"),
    (WHOLE + WHOLE, f"{len(WHOLE)} bytes after"),
    (b"\0" + WHOLE, "is no zlib stream"),
    (WHOLE[:-1] + bytes([WHOLE[-1] ^ 1]), "is no zlib stream"),  # its own checksum
    (b"\x78\xbb\0\0\0\1", "is no zlib stream"),  # wants a preset dictionary
    (BOMB, f"stands for more than {MAX_BYTES}"),
    (zlib.compress(bytes(4 * MAX_BYTES), 9), f"stands for more than {MAX_BYTES}"),
]


@pytest.mark.parametrize("name", [b"ICCZ", b"EXIZ"])
@pytest.mark.parametrize(("data", "what"), DAMAGED)
def test_damage_is_refused_or_left_out(name: bytes, data: bytes, what: str):
    plain = {b"ICCZ": b"EXIF", b"EXIZ": b"ICCP"}[name]
    chunks = {name: data, plain: b"the other"}
    with pytest.raises(BitstreamError, match=f"chunk {name.decode()} .*{what}"):
        from_chunks(chunks)
    kept, (problem,) = salvage_chunks(chunks)
    assert sorted(map(bool, kept)) == [False, True]
    assert b"the other" in kept
    assert what in problem
    assert problem.endswith("; it was left out")


@pytest.mark.parametrize(("plain", "compressed"), [(b"ICCP", b"ICCZ"), (b"EXIF", b"EXIZ")])
def test_one_thing_said_twice_is_refused(plain: bytes, compressed: bytes):
    with pytest.raises(BitstreamError, match="in one file, expected one of the two"):
        from_chunks({plain: PROFILE, compressed: WHOLE})


def test_a_bomb_takes_no_more_memory_than_the_limit():
    bomb = zlib.compress(bytes(4 * MAX_BYTES), 9)
    tracemalloc.start()
    try:
        with pytest.raises(BitstreamError):
            from_chunks({b"ICCZ": bomb})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * MAX_BYTES


def test_bytes_of_picture_and_metadata_apart():
    file = pack(dataclasses.replace(PLAIN, chunks={b"ICCP": b"12345", b"noTE": b"123"}))
    bare = pack(dataclasses.replace(PLAIN, chunks={}))
    figures = parse_file(file).size_figures
    assert figures["bytes"] == len(file) == figures["picture_bytes"] + figures["metadata_bytes"]
    assert figures["picture_bytes"] == len(bare)
    assert figures["metadata_bytes"] == 5 + 3 + 2 * 8
    assert figures["bpp"] == round(8 * len(file) / (768 * 512), 5)
    assert figures["picture_bpp"] == round(8 * len(bare) / (768 * 512), 5)
