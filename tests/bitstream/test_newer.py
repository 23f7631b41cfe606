"""What a file of a newer version says to this one, in every way that it is read."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_container import PLAIN

from mpa_core.bitstream.container import KNOWN_CHUNKS, PROFILES, VERSION, pack, peek_header, unpack
from mpa_core.bitstream.parsed import parse_file
from mpa_core.errors import BitstreamError

FILE = pack(PLAIN)
UPGRADE = "written by a newer version: upgrade with `pip install -U mpa-core`"
READERS: dict[str, Callable[[bytes], object]] = {
    "unpack": unpack,
    "header": peek_header,
    "strict": parse_file,
    "conceal": lambda data: parse_file(data, errors="conceal"),
}
SIZE = peek_header(FILE).size


def changed(offset: int, value: bytes) -> bytes:
    """A whole file, whose checksum agrees, of a writer that knows more than this version."""
    header = bytearray(FILE[: SIZE - 4])
    header[offset : offset + len(value)] = value
    return bytes(header) + struct.pack("<I", zlib.crc32(header)) + FILE[SIZE:]


def refusals(data: bytes) -> set[str]:
    """What every reader says."""
    said = set()
    for read in READERS.values():
        with pytest.raises(BitstreamError) as caught:
            read(data)
        said.add(str(caught.value))
    return said


@given(st.integers(VERSION + 1, 255), st.binary(max_size=99))
def test_a_version_above_ours(version: int, rest: bytes):
    """Whatever follows its number: another layout, or this one with a checksum that agrees."""
    text = f"container version {version}, expected {VERSION}; {UPGRADE}"
    assert refusals(FILE[:4] + bytes([version]) + rest) == {text}
    assert refusals(changed(4, bytes([version]))) == {text}


@given(st.integers(max(PROFILES) + 1, 255))
def test_an_entropy_profile_that_is_not_known(profile: int):
    known = "0 (float), 1 (exact)"
    assert refusals(changed(5, bytes([profile]))) == {
        f"entropy profile {profile}, this version knows {known}; {UPGRADE}"
    }


@given(st.from_regex(rb"[A-Z][A-Za-z]{3}", fullmatch=True).filter(lambda n: n not in KNOWN_CHUNKS))
def test_a_critical_chunk_that_is_not_known(name: bytes):
    assert refusals(changed(34, name)) == {
        f"chunk {name.decode()} is critical and this version does not know it (it knows EXIF, "
        f"EXIZ, ICCP, ICCZ); {UPGRADE}"
    }


@given(st.from_regex(rb"[a-z][A-Za-z]{3}", fullmatch=True))
def test_an_ancillary_chunk_that_is_not_known(name: bytes):
    """The one thing of a newer version that is passed over, which is what its name asks for."""
    for read in READERS.values():
        read(changed(34, name))
    assert parse_file(changed(34, name)).damage == ()
