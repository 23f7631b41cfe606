"""The ``.mpa`` file, version 1: writing, parsing, verifying, without torch or numpy.

``docs/spec/bitstream.md`` specifies the same file byte by byte. Every length that a file declares
is checked against the bytes that are there before anything is sliced.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral

from mpa_core.arguments import MAX_QUALITY, as_limit, expect, number, shown
from mpa_core.bitstream.signatures import check_magic
from mpa_core.errors import BitstreamError, QualityError

MAGIC = b"\x89MPA"
"""First bytes of a file. The first of them is neither ASCII nor UTF-8, so that a transfer as text
damages it visibly."""
VERSION = 1
PROFILES = {0: "float", 1: "exact"}
"""Entropy profiles this version reads and writes, by their number in the file."""
STREAM_NAMES = {0: ("y", "z"), 1: ("z", "y")}
"""Streams of a version-1 file in file order, by profile. ``y`` cannot be decoded without ``z``:
with ``z`` first, the beginning of a file that was cut short is still of use."""
STREAM_COUNT = 2
"""Number of streams of a version-1 file: one for y, one for z."""
KNOWN_CHUNKS = frozenset({b"ICCP", b"ICCZ", b"EXIF", b"EXIZ"})
QUALITY_SCALE = 4096
MIN_QUALITY = 1
MAX_PIXELS = 1024 * 1024 * 1024 // 4 // 3
"""Default limit on the pixels that :func:`unpack` accepts; the same as Pillow's own."""

_PADDING = 64
"""Side in pixels that a position of ``z`` covers in every base so far; only the limit on pixels
uses it."""

Buffer = bytes | bytearray | memoryview

_FIXED = struct.Struct("<4sBB8sHIIIIBB")
_STREAM = struct.Struct("<I")
_CHUNK = struct.Struct("<4sI")
_CRC = struct.Struct("<I")
_U32_MAX = 2**32 - 1
_SMALLEST = _FIXED.size + STREAM_COUNT * _STREAM.size + _CRC.size

_UPGRADE = "upgrade with `pip install -U mpa-core`"
_COPY_AGAIN = "the file is damaged: copy or encode it again"


@dataclass(frozen=True)
class Container:
    """The contents of an ``.mpa`` file; :func:`pack` and :func:`unpack` convert to and from bytes.

    Attributes:
        fingerprint: first 8 bytes of the base codec's SHA-256 fingerprint.
        profile: entropy profile, a key of :data:`PROFILES`.
        quality: 1 to 8, an exact multiple of 1/4096 (see :func:`quantize_quality`).
        width, height: the true size of the picture in pixels, without padding; at least 1.
        streams: range-coded bytes, in the order of :data:`STREAM_NAMES`.
        symbols_crc: CRC-32 of the decoded symbols, the z symbols first.
        chunks: metadata by four-letter name; see :mod:`mpa_core.bitstream.metadata`.
    """

    fingerprint: bytes
    profile: int
    quality: float
    width: int
    height: int
    streams: tuple[bytes, ...]
    symbols_crc: int
    chunks: Mapping[bytes, bytes] = field(default_factory=dict)

    @property
    def named_streams(self) -> dict[str, bytes]:
        """The streams by name, ``y`` and ``z``."""
        return dict(zip(STREAM_NAMES[self.profile], self.streams, strict=True))


@dataclass(frozen=True)
class Header:
    """The header of an ``.mpa`` file: all but the payload. See :class:`Container` for the names."""

    version: int
    profile: int
    fingerprint: bytes
    quality: float
    width: int
    height: int
    symbols_crc: int
    payload_crc: int
    stream_lengths: tuple[int, ...]
    chunk_lengths: Mapping[bytes, int]
    """Length of each chunk in bytes, in file order."""
    size: int
    """Size of the header itself in bytes."""

    @property
    def file_size(self) -> int:
        """Size of the whole file in bytes."""
        return self.size + sum(self.chunk_lengths.values()) + sum(self.stream_lengths)


def quantize_quality(q: float) -> float:
    """Return the quality nearest to ``q`` that a file can hold, a multiple of 1/4096.

    Raises:
        QualityError: ``q`` is not a number from 1 to 8.
    """
    found = number(q)
    if found is None or not MIN_QUALITY <= found <= MAX_QUALITY:
        raise QualityError(
            f"quality {shown(q) if found is None else f'{found:g}'} is outside {MIN_QUALITY} to "
            f"{MAX_QUALITY}; {MIN_QUALITY} gives the smallest file, {MAX_QUALITY} the best picture"
        )
    return round(found * QUALITY_SCALE) / QUALITY_SCALE


def pack(container: Container) -> bytes:
    """Return the bytes of the ``.mpa`` file; the same container always gives the same bytes.

    Raises:
        BitstreamError: a field has a value that the format cannot hold.
    """
    _check_fields(container)
    chunks = sorted(container.chunks.items())
    payload = b"".join([*(data for _, data in chunks), *container.streams])
    header = b"".join(
        [
            _FIXED.pack(
                MAGIC,
                VERSION,
                container.profile,
                container.fingerprint,
                int(container.quality * QUALITY_SCALE),
                container.width,
                container.height,
                container.symbols_crc,
                zlib.crc32(payload),
                len(chunks),
                len(container.streams),
            ),
            *(_CHUNK.pack(name, len(data)) for name, data in chunks),
            *(_STREAM.pack(len(data)) for data in container.streams),
        ]
    )
    return header + _CRC.pack(zlib.crc32(header)) + payload


def unpack(data: Buffer, *, max_pixels: int | None = MAX_PIXELS) -> Container:
    """Parse and verify a whole ``.mpa`` file.

    Args:
        data: all bytes of the file.
        max_pixels: largest number of pixels (width x height) to accept; None for no limit.

    Raises:
        BitstreamError: ``data`` is not a well-formed file of a known version, is damaged, or its
            picture is larger than ``max_pixels``. The symbols are not checked here: the entropy
            decoder compares them with ``symbols_crc``.
    """
    data = as_bytes(data)
    header = peek_header(data)
    check_pixels(header, max_pixels)
    if len(data) < header.file_size:
        raise BitstreamError(
            f"truncated: found {len(data)} bytes, the header promises {header.file_size}; "
            "copy or download the file again"
        )
    if len(data) > header.file_size:
        raise BitstreamError(
            f"found {len(data) - header.file_size} bytes after the last stream, expected none: the "
            f"header promises {header.file_size} bytes in all; {_COPY_AGAIN}"
        )
    found = zlib.crc32(memoryview(data)[header.size :])
    if found != header.payload_crc:
        raise BitstreamError(
            f"payload CRC-32 is {found:08x}, expected {header.payload_crc:08x}; {_COPY_AGAIN}"
        )
    return cut(data, header)


def peek_header(data: Buffer) -> Header:
    """Parse and verify the header alone; ``data`` is the file or any beginning with the header.

    Raises:
        BitstreamError: as :func:`unpack`, for everything that the header shows.
    """
    data = as_bytes(data)
    size = header_size(data)
    crc_at = size - _CRC.size
    (expected,) = _CRC.unpack_from(data, crc_at)
    found = zlib.crc32(memoryview(data)[:crc_at])
    if found != expected:
        raise BitstreamError(
            f"header CRC-32 is {found:08x}, expected {expected:08x}; {_COPY_AGAIN}"
        )
    return read_fields(data, size)


def header_size(data: bytes) -> int:
    """Return the size in bytes of the header at the beginning of ``data``, which holds it whole.

    Raises:
        BitstreamError: no ``.mpa`` file, one of another version, or too short for its header.
    """
    check_magic(data[:512], MAGIC)
    if len(data) > len(MAGIC) and data[len(MAGIC)] != VERSION:
        # Checked before anything else: another version may lay out all that follows differently.
        found = data[len(MAGIC)]
        advice = f"written by a newer version: {_UPGRADE}" if found > VERSION else _COPY_AGAIN
        raise BitstreamError(f"container version {found}, expected {VERSION}; {advice}")
    if len(data) < _SMALLEST:
        raise _truncated_header(len(data), _SMALLEST)
    chunk_count, stream_count = data[_FIXED.size - 2 : _FIXED.size]
    size = _FIXED.size + chunk_count * _CHUNK.size + stream_count * _STREAM.size + _CRC.size
    if len(data) < size:
        raise _truncated_header(len(data), size)
    return size


def read_fields(data: bytes, size: int) -> Header:
    """Read the header of ``size`` bytes, whether or not its checksum is right.

    Raises:
        BitstreamError: a field has a value that no writer of this version gives it.
    """
    # The checksum vouches for the bytes; these checks are against faulty or hostile writers.
    (
        *_,
        profile,
        fingerprint,
        quality,
        width,
        height,
        symbols_crc,
        payload_crc,
        chunk_count,
        stream_count,
    ) = _FIXED.unpack_from(data)
    _check_profile(profile)
    if not MIN_QUALITY * QUALITY_SCALE <= quality <= MAX_QUALITY * QUALITY_SCALE:
        raise BitstreamError(
            f"quality {quality / QUALITY_SCALE:g}, expected {MIN_QUALITY} to {MAX_QUALITY}; "
            "a conforming encoder never writes this"
        )
    _check_size(width, height)
    _check_stream_count(stream_count)
    chunk_lengths: dict[bytes, int] = {}
    for i in range(chunk_count):
        name, length = _CHUNK.unpack_from(data, _FIXED.size + i * _CHUNK.size)
        _check_chunk_name(name)
        if name in chunk_lengths:
            raise BitstreamError(f"chunk {name.decode()} appears twice, expected once at most")
        chunk_lengths[name] = length
    streams_at = _FIXED.size + chunk_count * _CHUNK.size
    lengths = struct.unpack_from(f"<{stream_count}I", data, streams_at)
    return Header(
        version=VERSION,
        profile=profile,
        fingerprint=fingerprint,
        quality=quality / QUALITY_SCALE,
        width=width,
        height=height,
        symbols_crc=symbols_crc,
        payload_crc=payload_crc,
        stream_lengths=lengths,
        chunk_lengths=chunk_lengths,
        size=size,
    )


def cut(data: bytes, header: Header) -> Container:
    """Build the container of ``header`` from the bytes present of chunks and streams, unchecked."""
    parts = []
    start = header.size
    for length in (*header.chunk_lengths.values(), *header.stream_lengths):
        parts.append(data[start : start + length])
        start += length
    count = len(header.chunk_lengths)
    return Container(
        fingerprint=header.fingerprint,
        profile=header.profile,
        quality=header.quality,
        width=header.width,
        height=header.height,
        streams=tuple(parts[count:]),
        symbols_crc=header.symbols_crc,
        chunks=dict(zip(header.chunk_lengths, parts, strict=False)),
    )


def check_pixels(header: Header, max_pixels: int | None) -> None:
    """Refuse a picture of more than ``max_pixels``; None is no limit.

    A decoder works on the picture padded to multiples of 64 pixels, which multiplies the size of a
    picture one pixel wide: the padded picture may have twice ``max_pixels`` and a million more.

    Raises:
        BitstreamError: the picture, or the padded picture, has too many pixels.
    """
    max_pixels = as_limit(max_pixels, "max_pixels")
    if max_pixels is None:
        return
    width, height = header.width, header.height
    padded = -(-width // _PADDING) * -(-height // _PADDING) * _PADDING**2
    if width * height > max_pixels or padded > 2 * max_pixels + 2**20:
        raise BitstreamError(
            f"the picture is {width}x{height} = {width * height} pixels, {padded} with its padding "
            f"to multiples of {_PADDING}; the limit is {max_pixels}, or twice that with it; if you "
            "trust the file, raise the limit with max_pixels= (mpa decode: --max-pixels)"
        )


def as_bytes(data: Buffer) -> bytes:
    """Convert ``data`` to bytes.

    Raises:
        BitstreamError: it is none of the types in :data:`Buffer`.
    """
    if not isinstance(data, Buffer):
        raise BitstreamError(
            f"expected the bytes of an .mpa file, got {type(data).__name__}; "
            "read the file in binary mode, open(path, 'rb')"
        )
    return bytes(data)


def _truncated_header(found: int, expected: int) -> BitstreamError:
    return BitstreamError(
        f"truncated: found {found} bytes, the header alone needs {expected}; "
        "copy or download the file again"
    )


# ---------------------------------------------------------------------- field checks


def _check_fields(container: Container) -> None:
    expect(container, Container, "container", "a Container", BitstreamError)
    for attribute, kind, what in (
        ("fingerprint", bytes, "bytes"),
        ("streams", tuple, "a tuple of bytes"),
        ("chunks", Mapping, "a mapping of names to bytes"),
    ):
        expect(getattr(container, attribute), kind, attribute, what, BitstreamError)
    for attribute in ("profile", "width", "height", "symbols_crc"):
        value = getattr(container, attribute)
        expect(value, Integral, attribute, "a whole number (int)", BitstreamError)
    if len(container.fingerprint) != 8:
        raise BitstreamError(
            f"fingerprint prefix of {len(container.fingerprint)} bytes, expected 8; "
            "take the first 8 bytes of the SHA-256"
        )
    _check_profile(container.profile)
    try:
        exact = quantize_quality(container.quality) == container.quality
    except QualityError as error:
        raise BitstreamError(str(error)) from error
    if not exact:
        raise BitstreamError(
            f"quality {container.quality!r} is not a multiple of 1/{QUALITY_SCALE}; "
            "encode with quantize_quality(quality), or the decoder would use another one"
        )
    _check_size(container.width, container.height)
    if not 0 <= container.symbols_crc <= _U32_MAX:
        raise BitstreamError(f"symbols_crc {container.symbols_crc} is not an unsigned 32-bit CRC")
    _check_stream_count(len(container.streams))
    if len(container.chunks) > 255:
        raise BitstreamError(f"{len(container.chunks)} chunks, a file holds 255 at most")
    for name, data in container.chunks.items():
        _check_chunk_name(name)
        _check_length(f"chunk {name.decode()}", data)
    for i, data in enumerate(container.streams):
        _check_length(f"stream {i}", data)


def _check_profile(profile: int) -> None:
    if profile not in PROFILES:
        known = ", ".join(f"{number} ({name})" for number, name in PROFILES.items())
        raise BitstreamError(
            f"entropy profile {profile}, this version knows {known}; "
            f"written by a newer version: {_UPGRADE}"
        )


def _check_size(width: int, height: int) -> None:
    if not (1 <= width <= _U32_MAX and 1 <= height <= _U32_MAX):
        raise BitstreamError(
            f"the picture is {width}x{height} pixels, expected 1 to {_U32_MAX} each way; "
            "a conforming encoder never writes this"
        )


def _check_stream_count(count: int) -> None:
    if count != STREAM_COUNT:
        raise BitstreamError(
            f"{count} streams, expected {STREAM_COUNT} (y and z); "
            "a conforming encoder never writes this"
        )


def _check_chunk_name(name: bytes) -> None:
    expect(name, bytes, "a chunk's name", "bytes", BitstreamError)
    if len(name) != 4 or not (name.isascii() and name.isalpha()):
        raise BitstreamError(f"chunk name {name!r}, expected four ASCII letters")
    # As in PNG, the case of the first letter tells whether a reader may ignore the chunk.
    if name not in KNOWN_CHUNKS and name[:1].isupper():
        known = ", ".join(sorted(chunk.decode() for chunk in KNOWN_CHUNKS))
        raise BitstreamError(
            f"chunk {name.decode()} is critical and this version does not know it (it knows "
            f"{known}); written by a newer version: {_UPGRADE}"
        )


def _check_length(what: str, data: bytes) -> None:
    expect(data, bytes, what, "bytes", BitstreamError)
    if len(data) > _U32_MAX:
        raise BitstreamError(f"{what} has {len(data)} bytes, a file holds {_U32_MAX} at most")
