"""Damaged files: one wrong byte is put right, and of the rest everything that is there is kept."""

from __future__ import annotations

import dataclasses
import random
import struct
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_container import PLAIN

from mpa_core.bitstream.container import pack, peek_header, unpack
from mpa_core.bitstream.salvage import salvage
from mpa_core.errors import BitstreamError

Y, Z = bytes(range(1, 101)), b"the z stream"
WHOLE = dataclasses.replace(PLAIN, streams=(Y, Z))
FILE = pack(WHOLE)
HEADER = peek_header(FILE).size
CHUNKS = {b"EXIF": slice(0, 4), b"ICCP": slice(4, 11)}  # in the payload


def changed(offset: int, mask: int, data: bytes = FILE) -> bytes:
    copy = bytearray(data)
    copy[offset] ^= mask
    return bytes(copy)


def test_a_good_file_has_no_problems():
    assert salvage(FILE).container == WHOLE
    assert salvage(FILE).problems == ()


def test_every_single_wrong_byte_is_put_right():
    """Wrong by one bit and by any at all everywhere; by each of the 255 values at some places."""
    chance = random.Random(3)
    single = [1 << bit for bit in range(8)]
    for offset in range(len(FILE)):
        every = offset % 16 == 0 or offset == len(FILE) - 1
        for mask in range(1, 256) if every else (*single, chance.randrange(1, 256)):
            found = salvage(changed(offset, mask))
            assert found.container == WHOLE
            assert found.problems == (
                f"byte {offset} was {FILE[offset] ^ mask:02x}, put right to {FILE[offset]:02x} "
                "by the CRC-32",
            )


def test_a_byte_of_the_header_and_one_of_the_payload():
    found = salvage(changed(len(FILE) - 1, 0x40, changed(16, 0x80)))
    assert found.container == WHOLE
    assert [text.split()[1] for text in found.problems] == ["16", str(len(FILE) - 1)]


def test_every_truncation_behind_the_header_keeps_what_is_there():
    for length in range(HEADER, len(FILE)):
        found = salvage(FILE[:length])
        y, z = found.container.streams
        assert FILE[HEADER + 11 : length] == y + z
        chunks = {
            name: FILE[HEADER:][at] for name, at in CHUNKS.items() if HEADER + at.stop <= length
        }
        assert found.container.chunks == chunks
        assert (len(chunks) < 2) == ("metadata cut short" in found.problems[-1])
        assert f"the last {len(FILE) - length} of {len(FILE)} bytes are missing" in found.problems


def test_a_header_cut_short_is_refused():
    for length in range(HEADER):
        with pytest.raises(BitstreamError):
            salvage(FILE[:length])


@given(st.binary(min_size=1, max_size=300))
def test_what_follows_is_cut_off(tail: bytes):
    found = salvage(FILE + tail)
    assert found.container == WHOLE
    assert found.problems == (f"{len(tail)} bytes after the last stream were left out",)


def test_several_wrong_bytes_of_the_payload():
    data = FILE[: HEADER + 20] + bytes(10) + FILE[HEADER + 30 :]
    found = salvage(data)
    assert found.problems == ("the payload CRC-32 is wrong by more than one byte",)
    assert found.container.streams == (Y[:9] + bytes(10) + Y[19:], Z)
    assert found.container.chunks == WHOLE.chunks


def test_a_header_wrong_by_two_bytes_is_believed_where_its_lengths_fit():
    data = changed(7, 1, changed(15, 1))
    found = salvage(data)
    assert found.problems[0].endswith("its fields were believed all the same")
    assert found.container.streams == (Y, Z)
    with pytest.raises(BitstreamError, match="header CRC-32"):
        salvage(data[:-1])
    with pytest.raises(BitstreamError, match="header CRC-32"):
        salvage(changed(7, 1, changed(14, 255, changed(15, 255))))  # no quality at all


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(80), "a PNG picture"),
        (bytes(500), "not an .mpa file"),
        ("text", "got str"),
    ],
)
def test_other_files(data, expected: str):
    with pytest.raises(BitstreamError) as caught:
        salvage(data)
    assert expected in str(caught.value)


def test_a_forged_header_is_refused_as_by_unpack():
    # The checksum is right, so nothing is repaired: this is what a hostile writer wrote.
    header = bytearray(FILE[: HEADER - 4])
    header[14:16] = b"\xff\xff"
    data = bytes(header) + struct.pack("<I", zlib.crc32(header)) + FILE[HEADER:]
    with pytest.raises(BitstreamError, match="quality 15"):
        salvage(data)


def test_the_pixel_limit_holds():
    large = pack(dataclasses.replace(WHOLE, width=2**20, height=2**20))
    with pytest.raises(BitstreamError, match="the limit is"):
        salvage(large[:-1])
    assert salvage(large[:-1], max_pixels=None).container.width == 2**20


@given(st.binary(max_size=400), st.booleans())
@settings(max_examples=300)
def test_any_bytes_are_salvaged_or_refused(data: bytes, magic: bool):
    try:
        found = salvage(FILE[:6] + data if magic else data)
    except BitstreamError as error:
        assert "\n" not in str(error)
    else:
        assert found.problems


def test_a_large_file_takes_no_time():
    big = pack(dataclasses.replace(WHOLE, streams=(bytes(2**20), Z)))
    start = time.process_time()
    assert salvage(changed(HEADER + 5000, 3, big)).container == unpack(big)
    assert time.process_time() - start < 20
