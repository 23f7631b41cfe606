"""The .mpa container: round trips, and every way a file can be wrong."""

from __future__ import annotations

import dataclasses
import io
import struct
import subprocess
import sys
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sample_container import PLAIN

from mpa_core.bitstream.container import (
    KNOWN_CHUNKS,
    MAX_PIXELS,
    Container,
    pack,
    peek_header,
    quantize_quality,
    unpack,
)
from mpa_core.errors import BitstreamError, QualityError

FILE = pack(PLAIN)
U32 = st.integers(0, 2**32 - 1)
SIZE = st.integers(1, 2**32 - 1)
ANCILLARY = st.from_regex(rb"[a-z][A-Za-z]{3}", fullmatch=True)
CONTAINERS = st.builds(
    Container,
    fingerprint=st.binary(min_size=8, max_size=8),
    profile=st.just(0),
    quality=st.integers(4096, 32768).map(lambda n: n / 4096),
    width=SIZE,
    height=SIZE,
    streams=st.tuples(st.binary(max_size=40), st.binary(max_size=40)),
    symbols_crc=U32,
    chunks=st.dictionaries(
        st.sampled_from(sorted(KNOWN_CHUNKS)) | ANCILLARY, st.binary(max_size=20), max_size=5
    ),
)


def with_header(data: bytes, offset: int, value: bytes) -> bytes:
    """``data`` with some header bytes replaced and a header CRC that agrees: a hostile writer."""
    size = peek_header(FILE).size
    header = bytearray(data[: size - 4])
    header[offset : offset + len(value)] = value
    return bytes(header) + struct.pack("<I", zlib.crc32(header)) + data[size:]


def message(data, **options) -> str:
    with pytest.raises(BitstreamError) as caught:
        unpack(data, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


# ---------------------------------------------------------------------- round trips


@given(CONTAINERS)
def test_round_trip(container: Container):
    data = pack(container)
    assert unpack(data, max_pixels=None) == container
    header = peek_header(data)
    assert header.file_size == len(data)
    assert header.stream_lengths == tuple(map(len, container.streams))
    assert dict(header.chunk_lengths) == {k: len(v) for k, v in container.chunks.items()}
    assert peek_header(data[: header.size]) == header


def test_overhead_without_chunks_is_46_bytes():
    bare = dataclasses.replace(PLAIN, chunks={})
    assert len(pack(bare)) - sum(map(len, bare.streams)) == 46


def test_order_of_chunks_does_not_change_the_bytes():
    swapped = dataclasses.replace(PLAIN, chunks=dict(reversed(PLAIN.chunks.items())))
    assert pack(swapped) == FILE


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_buffers(kind):
    assert unpack(kind(FILE)) == PLAIN
    assert peek_header(kind(FILE)).size < len(FILE)


@given(st.floats(1, 8))
def test_quality_rounds_to_what_a_file_holds(q: float):
    kept = quantize_quality(q)
    assert abs(kept - q) <= 1 / 8192
    assert quantize_quality(kept) == kept
    assert unpack(pack(dataclasses.replace(PLAIN, quality=kept))).quality == kept


def test_levels_are_exact():
    assert [quantize_quality(level) for level in range(1, 9)] == list(range(1, 9))


@pytest.mark.parametrize("q", [0, 0.999999, 8.000001, 9, -1, float("nan"), float("inf")])
def test_quality_out_of_range(q: float):
    with pytest.raises(QualityError, match="outside 1 to 8"):
        quantize_quality(q)


# ---------------------------------------------------------------------- damage


def test_every_single_byte_change_is_seen():
    for position in range(len(FILE)):
        for value in range(256):
            if value != FILE[position]:
                changed = bytearray(FILE)
                changed[position] = value
                message(bytes(changed))


def test_every_truncation_is_seen():
    for length in range(len(FILE)):
        text = message(FILE[:length])
        assert ("empty" if length == 0 else f"found {length} bytes") in text


@given(CONTAINERS, st.binary(min_size=1, max_size=40))
@settings(max_examples=50)
def test_every_extension_is_seen(container: Container, tail: bytes):
    text = message(pack(container) + tail, max_pixels=None)
    assert f"found {len(tail)} bytes after the last stream" in text


@given(CONTAINERS, st.data())
@settings(max_examples=300)
def test_mutations_are_seen(container: Container, data):
    original = pack(container)
    start = data.draw(st.integers(0, len(original)))
    stop = data.draw(st.integers(start, min(len(original), start + 12)))
    changed = original[:start] + data.draw(st.binary(max_size=12)) + original[stop:]
    if changed != original:
        message(changed, max_pixels=None)


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=300)
def test_garbage_is_refused(garbage: bytes, magic: bool):
    message(FILE[:6] + garbage if magic else garbage)


@given(st.binary(min_size=34, max_size=34), st.binary(max_size=60))
@settings(max_examples=300)
def test_hostile_headers_with_right_checksums(fixed: bytes, rest: bytes):
    # The checksum agrees, so the other checks must hold on their own: nothing but an MPAError.
    header = FILE[:6] + fixed[6:32] + bytes([fixed[32] % 4, 1 + fixed[33] % 3])
    tables = (rest * 12)[: 8 * header[32] + 4 * header[33]].ljust(
        8 * header[32] + 4 * header[33], b"a"
    )
    whole = header + tables
    message(whole + struct.pack("<I", zlib.crc32(whole)) + rest, max_pixels=None)


def test_damage_messages_say_what_and_what_next():
    end = len(FILE)
    size = peek_header(FILE).size
    assert message(FILE[: end - 3]) == (
        f"truncated: found {end - 3} bytes, the header promises {end}; "
        "copy or download the file again"
    )
    assert "the header alone needs 46" in message(FILE[:20])
    assert f"the header alone needs {size}" in message(FILE[:50])
    flipped = bytearray(FILE)
    flipped[-1] ^= 1
    assert "payload CRC-32" in message(bytes(flipped))
    flipped = bytearray(FILE)
    flipped[16] ^= 1
    assert "header CRC-32" in message(bytes(flipped))


# ---------------------------------------------------------------------- fields a writer got wrong


@pytest.mark.parametrize(
    ("offset", "value", "expected"),
    [
        (
            5,
            b"\x07",
            "entropy profile 7, this version knows 0 (float), 1 (exact); written by",
        ),
        (14, b"\xff\x0f", "quality 0.999756, expected 1 to 8"),
        (14, b"\x01\x80", "quality 8.00024, expected 1 to 8"),
        (16, bytes(4), "0x512 pixels"),
        (20, bytes(4), "768x0 pixels"),
        (34, b"QQQQ", "chunk QQQQ is critical and this version does not know it"),
        (34, b"ICCP", "chunk ICCP appears twice"),
        (34, b"IC\xc3P", "expected four ASCII letters"),
        (38, b"\xff\xff\xff\xff", "truncated: found"),
    ],
)
def test_fields_out_of_range(offset: int, value: bytes, expected: str):
    assert expected in message(with_header(FILE, offset, value))


def test_version_is_looked_at_before_the_checksum():
    newer = FILE[:4] + b"\x02" + FILE[5:]
    assert message(newer) == (
        "container version 2, expected 1; written by a newer version: "
        "upgrade with `pip install -U mpa-core`"
    )
    assert "version 2" in message(newer[:5])
    assert message(FILE[:4] + b"\x00" + FILE[5:]).endswith(
        "expected 1; the file is damaged: copy or encode it again"
    )


@pytest.mark.parametrize("count", [0, 1, 3])
def test_number_of_streams(count: int):
    bare = pack(dataclasses.replace(PLAIN, chunks={}, streams=(b"", b"")))
    header = bare[:33] + bytes([count]) + bytes(4 * count)
    data = header + struct.pack("<I", zlib.crc32(header)) + bytes(8)
    assert f"{count} streams, expected 2" in message(data)


def test_ancillary_chunks_are_kept_and_harmless():
    extra = dataclasses.replace(PLAIN, chunks={b"noTE": b"hello"})
    assert unpack(pack(extra)) == extra


def test_pixel_limit():
    large = pack(dataclasses.replace(PLAIN, width=65_536, height=65_536))
    assert message(large) == (
        "the picture is 65536x65536 = 4294967296 pixels, 4294967296 with its padding to multiples "
        f"of 64; the limit is {MAX_PIXELS}, or twice that with it; if you trust the file, raise "
        "the limit with max_pixels= (mpa decode: --max-pixels)"
    )
    assert unpack(large, max_pixels=None).width == 65_536
    assert unpack(FILE, max_pixels=768 * 512) == PLAIN
    message(FILE, max_pixels=768 * 512 - 1)


def test_the_pixel_limit_counts_the_padding():
    def file_of(width: int, height: int) -> bytes:
        return pack(dataclasses.replace(PLAIN, width=width, height=height))

    for width, height in ((9459, 9459), (1, 2_000_000), (2_000_000, 1)):
        assert unpack(file_of(width, height)).width == width
    for width, height in ((1, MAX_PIXELS), (MAX_PIXELS, 1), (1, 2_900_000)):
        assert "with its padding" in message(file_of(width, height))
    assert unpack(file_of(24, 20), max_pixels=480).width == 24


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"fingerprint": bytes(32)}, "fingerprint prefix of 32 bytes, expected 8"),
        ({"profile": 9}, "entropy profile 9"),
        ({"quality": 0.5}, "outside 1 to 8"),
        ({"quality": 4.1}, "not a multiple of 1/4096"),
        ({"width": 0}, "0x512 pixels"),
        ({"height": 2**32}, "768x4294967296 pixels"),
        ({"streams": (b"",)}, "1 streams, expected 2"),
        ({"symbols_crc": -1}, "symbols_crc -1"),
        ({"chunks": {b"abc": b""}}, "chunk name b'abc', expected four ASCII letters"),
        ({"chunks": {b"QQQQ": b""}}, "critical"),
        (
            {"chunks": {b"aa" + bytes([i, j]): b"" for i in range(65, 85) for j in range(65, 85)}},
            "400",
        ),
    ],
)
def test_pack_refuses_what_the_format_cannot_hold(change: dict, expected: str):
    with pytest.raises(BitstreamError) as caught:
        pack(dataclasses.replace(PLAIN, **change))
    assert expected in str(caught.value)


# ---------------------------------------------------------------------- other files


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WebP", "GIF", "BMP", "TIFF"])
def test_other_pictures_are_named(kind: str):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, kind)
    assert message(buffer.getvalue()) == (
        f"not an .mpa file: it looks like a {kind} picture; "
        "a picture is compressed with `mpa encode`"
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "the file is empty"),
        (b"hello, world\n", "it looks like text"),
        ("grüße".encode(), "it looks like text"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x09" + FILE[1:], "damaged by a transfer as text"),
        ("\x89".encode() + FILE[1:], "damaged by a transfer as text"),
        (FILE.decode("utf-8", "replace").encode(), "damaged by a transfer as text"),
        (b"\x00\x01\x02\x03", "it starts with 00 01 02 03, expected 89 4d 50 41"),
        (b"PK\x03\x04....", "a ZIP archive"),
    ],
)
def test_other_files_are_named(data: bytes, expected: str):
    assert expected in message(data)


def test_text_and_other_types_are_refused():
    assert "got str; read the file in binary mode" in message("text")
    assert "got int" in message(5)


def test_the_container_needs_neither_torch_nor_numpy():
    code = (
        "import sys, mpa_core.bitstream.container;"
        "print(sorted({'torch', 'numpy', 'PIL', 'compressai'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
