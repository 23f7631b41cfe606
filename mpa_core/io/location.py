"""Removal of the place where a photo was taken from its EXIF block; all else stays as it is.

Makers' notes and comments are kept: their formats are not public, and some makers write the name of
a place there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

_GPS = 0x8825
# The GPS directory, and the blocks of XMP, IPTC and Photoshop that can name the place as well.
_PLACES = frozenset((_GPS, 0x02BC, 0x83BB, 0x8649))
_DIRECTORIES = frozenset((0x014A, 0x8769, 0xA005))  # further images, EXIF, interoperability
_PREVIEW, _PREVIEW_LENGTH = 0x0201, 0x0202
# A preview is a JPEG file, which can have metadata of its own.
_METADATA_MARKS = (b"Exif\0\0", b"http://ns.adobe.com/", b"Photoshop 3.0")
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_ENTRY_BYTES = 12
_MOST_DIRECTORIES = 64
"""Largest number of directories that are read. No camera writes more, and they could take for
ever."""


class _Entry(NamedTuple):
    tag: int
    at: int
    """Offset of the entry."""
    start: int
    stop: int
    """End of its value, which begins at ``start``, in the entry or elsewhere; cut off at the end of
    the block."""


class _Directory(NamedTuple):
    at: int
    entries: list[_Entry]
    next_at: int
    """Place of the offset of the next directory."""


def has_location(exif: bytes) -> bool:
    """Return whether an EXIF block names a place, or is too irregular to tell.

    ``exif`` begins with its TIFF header.
    """
    directories = list(islice(_directories(exif), _MOST_DIRECTORIES + 1))
    too_many = len(directories) > _MOST_DIRECTORIES
    return too_many or any(_to_remove(exif, directory) for directory in directories)


def without_location(exif: bytes) -> bytes | None:
    """Remove the GPS directory, and XMP, IPTC and Photoshop blocks, from an EXIF block.

    Their bytes become zeros and their entries are taken out of the directories; every other byte
    stays, at its place, since makers' notes refer to places. A preview that has metadata of its own
    is removed, too.

    Args:
        exif: the block, beginning with its TIFF header.

    Returns:
        As many bytes; None if the block is not valid, or so irregular that its location cannot be
        told apart.
    """
    if _byte_order(exif) is None:
        return None
    if not has_location(exif):
        return exif
    order = _byte_order(exif)
    block = bytearray(exif)
    for directory in islice(_directories(exif), _MOST_DIRECTORIES):
        gone = _to_remove(exif, directory)
        if not gone:
            continue
        for entry in gone:
            if entry.tag == _GPS:
                gps = _directory(exif, _number(exif, entry))
                _clear(block, gps.at, gps.next_at + 4)
                for value in gps.entries:
                    _clear(block, value.start, value.stop)
            elif entry.tag == _PREVIEW:
                _clear(block, *_preview(exif, directory))
            else:
                _clear(block, entry.start, entry.stop)
        kept = [entry for entry in directory.entries if entry not in gone]
        table = b"".join(exif[entry.at : entry.at + _ENTRY_BYTES] for entry in kept)
        following = exif[directory.next_at : directory.next_at + 4]
        size = len(exif[directory.at : directory.next_at + 4])
        packed = struct.pack(f"{order}H", len(kept)) + table + following
        block[directory.at : directory.at + size] = packed.ljust(size, b"\0")
    done = bytes(block)
    # Directories that lie over one another, which no camera writes, may still be there.
    return None if len(done) != len(exif) or has_location(done) else done


def _byte_order(exif: bytes) -> str | None:
    """Return the byte order for :mod:`struct`; None if this is no TIFF header."""
    return {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4]) if len(exif) >= 8 else None


def _directories(exif: bytes) -> Iterator[_Directory]:
    """Yield every directory but GPS, each once; no reader finds any outside of the block."""
    order = _byte_order(exif)
    if order is None:
        return
    pending, seen = list(struct.unpack_from(f"{order}I", exif, 4)), set[int]()
    while pending:
        at = pending.pop()
        if at in seen or not 8 <= at <= len(exif) - 2:
            continue
        seen.add(at)
        directory = _directory(exif, at)
        yield directory
        for entry in directory.entries:
            if entry.tag in _DIRECTORIES:
                value = exif[entry.start : entry.stop]
                pending += [n for (n,) in struct.iter_unpack(f"{order}I", value[: len(value) & ~3])]
        if directory.next_at + 4 <= len(exif):
            pending += struct.unpack_from(f"{order}I", exif, directory.next_at)


def _directory(exif: bytes, at: int) -> _Directory:
    order = _byte_order(exif)
    if at + 2 > len(exif):
        return _Directory(at, [], at)
    (count,) = struct.unpack_from(f"{order}H", exif, at)
    count = min(count, (len(exif) - at - 2) // _ENTRY_BYTES)
    entries = []
    for i in range(count):
        entry_at = at + 2 + _ENTRY_BYTES * i
        tag, kind, number, offset = struct.unpack_from(f"{order}HHII", exif, entry_at)
        size = _SIZES.get(kind, 1) * number
        start = entry_at + 8 if size <= 4 else min(offset, len(exif))
        entries.append(_Entry(tag, entry_at, start, min(start + size, len(exif))))
    return _Directory(at, entries, at + 2 + _ENTRY_BYTES * count)


def _to_remove(exif: bytes, directory: _Directory) -> list[_Entry]:
    gone = [entry for entry in directory.entries if entry.tag in _PLACES]
    start, stop = _preview(exif, directory)
    if any(mark in exif[start:stop] for mark in _METADATA_MARKS):
        gone += [e for e in directory.entries if e.tag in (_PREVIEW, _PREVIEW_LENGTH)]
    return gone


def _preview(exif: bytes, directory: _Directory) -> tuple[int, int]:
    """Return start and end of the preview of a directory; an empty range if it has none."""
    values = {entry.tag: _number(exif, entry) for entry in directory.entries}
    start = values.get(_PREVIEW, len(exif))
    return start, min(start + values.get(_PREVIEW_LENGTH, 0), len(exif))


def _number(exif: bytes, entry: _Entry) -> int:
    """Return the first 4 bytes of the entry's own field, as an offset or a length."""
    return int(struct.unpack_from(f"{_byte_order(exif)}I", exif, entry.at + 8)[0])


def _clear(block: bytearray, start: int, stop: int) -> None:
    stop = min(stop, len(block))
    if start < stop:
        block[start:stop] = bytes(stop - start)
