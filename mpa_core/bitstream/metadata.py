"""ICC profile and EXIF of a picture in the chunks of an ``.mpa`` file, in pure Python.

Each has two chunks: one for the plain bytes, one for compressed bytes. A writer takes the shorter;
a reader limits what it decompresses, so that a small file cannot ask for much memory.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import NamedTuple

from mpa_core.errors import BitstreamError

MAX_BYTES = 2**24
"""Largest size of a decompressed chunk in bytes; longer metadata are stored uncompressed."""

_ICC = (b"ICCP", b"ICCZ")
_EXIF = (b"EXIF", b"EXIZ")


class Metadata(NamedTuple):
    """The metadata of a picture."""

    icc_profile: bytes | None = None
    exif: bytes | None = None
    """The EXIF block, beginning with its TIFF header."""


def to_chunks(metadata: Metadata, *, compress: bool = True) -> dict[bytes, bytes]:
    """Return the chunks that hold ``metadata``; missing or empty entries take none.

    Args:
        metadata: metadata of the picture.
        compress: whether to choose the compressed chunk where it is shorter. Its bytes depend on
            the machine's zlib.
    """
    chunks = {}
    for value, (plain, compressed) in zip(metadata, (_ICC, _EXIF), strict=True):
        if not value:
            continue
        shorter = zlib.compress(value, 9) if compress and len(value) <= MAX_BYTES else value
        if len(shorter) < len(value):
            chunks[compressed] = shorter
        else:
            chunks[plain] = value
    return chunks


def from_chunks(chunks: Mapping[bytes, bytes]) -> Metadata:
    """Read the metadata that :func:`to_chunks` stored in the chunks of a container.

    Raises:
        BitstreamError: a compressed chunk is damaged, decompresses to more than :data:`MAX_BYTES`,
            or stands beside the plain one.
    """
    return Metadata(*(_read(chunks, plain, compressed) for plain, compressed in (_ICC, _EXIF)))


def salvage_chunks(chunks: Mapping[bytes, bytes]) -> tuple[Metadata, tuple[str, ...]]:
    """Return the readable metadata, and one sentence on each chunk that was left out."""
    found: list[bytes | None] = []
    problems = []
    for plain, compressed in (_ICC, _EXIF):
        try:
            found.append(_read(chunks, plain, compressed))
        except BitstreamError as error:
            reason, _, _ = str(error).partition(";")
            problems.append(f"{reason}; it was left out")
            found.append(None)
    return Metadata(*found), tuple(problems)


def _read(chunks: Mapping[bytes, bytes], plain: bytes, compressed: bytes) -> bytes | None:
    if compressed not in chunks:
        return chunks.get(plain)
    name = compressed.decode()
    if plain in chunks:
        raise BitstreamError(
            f"chunks {plain.decode()} and {name} in one file, expected one of the two; "
            "a conforming encoder never writes this"
        )
    return _decompress(name, chunks[compressed])


def _decompress(name: str, data: bytes) -> bytes:
    """Decompress ``data``, which must be one whole zlib stream and nothing else."""
    stream = zlib.decompressobj()
    try:
        # One byte more than allowed suffices to refuse it, however long the rest is.
        value = stream.decompress(data, MAX_BYTES + 1)
    except zlib.error as error:
        raise _damaged(name, f"is no zlib stream ({error})") from error
    if len(value) > MAX_BYTES:
        raise BitstreamError(
            f"chunk {name} of {len(data)} bytes stands for more than {MAX_BYTES}; "
            "a conforming encoder never writes this"
        )
    if not stream.eof:
        raise _damaged(name, f"ends inside its zlib stream of {len(data)} bytes")
    if stream.unused_data:
        raise _damaged(name, f"has {len(stream.unused_data)} bytes after its zlib stream")
    return value


def _damaged(name: str, what: str) -> BitstreamError:
    return BitstreamError(f"chunk {name} {what}; the file is damaged: copy or encode it again")
