"""EXIF blocks made by hand, as cameras write them and as no camera does."""

from __future__ import annotations

import struct
from collections.abc import Iterable

LATITUDE = ((48, 1), (12, 1), (3456, 100))
PLACE = b"Tower of London"
PREVIEW = b"\xff\xd8\xff\xdb" + bytes(range(200)) + b"\xff\xd9"
MAKER_NOTE = b"SECRET\0\1" + bytes(range(255, 155, -1))
_ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 2, 3, 4, 5, 7
_SIZES = {_ASCII: 1, _SHORT: 2, _LONG: 4, _RATIONAL: 8, _UNDEFINED: 1}

Tag = tuple[int, int, bytes]


class Block:
    """A TIFF structure that grows: directories and what their entries point at."""

    def __init__(self, order: str = "<") -> None:
        self.order = order
        self.data = bytearray({"<": b"II*\0", ">": b"MM\0*"}[order] + bytes(4))

    def numbers(self, code: str, *values: int) -> bytes:
        return struct.pack(f"{self.order}{len(values)}{code}", *values)

    def directory(self, tags: Iterable[Tag], following: int = 0) -> int:
        """Append a directory, values first; returns where it is."""
        entries = []
        for tag, kind, value in sorted(tags):
            if len(value) > 4:
                where = self.numbers("I", self.append(value))
            else:
                where = value.ljust(4, b"\0")
            entries.append(self.numbers("H", tag, kind))
            entries.append(self.numbers("I", len(value) // _SIZES[kind]) + where)
        body = self.numbers("H", len(entries) // 2) + b"".join(entries)
        return self.append(body + self.numbers("I", following))

    def append(self, value: bytes) -> int:
        self.data += bytes(len(self.data) % 2)
        self.data += value
        return len(self.data) - len(value)

    def finish(self, first: int) -> bytes:
        self.data[4:8] = self.numbers("I", first)
        return bytes(self.data)


def photo(
    order: str = "<",
    *,
    place: bool = True,
    orientation: int = 6,
    preview: bytes = PREVIEW,
    maker_note: bytes = MAKER_NOTE,
    more: Iterable[Tag] = (),
) -> bytes:
    """The block of a camera: with a preview, a maker's note, and where it was taken."""
    block = Block(order)
    long, short = (lambda n: block.numbers("I", n)), (lambda n: block.numbers("H", n))
    rationals = block.numbers("I", *(n for pair in LATITUDE for n in pair))
    tags = [
        (0x010F, _ASCII, b"Maker of cameras\0"),
        (0x0112, _SHORT, short(orientation)),
        *more,
    ]
    camera = [
        (0x9003, _ASCII, b"2020:01:01 00:00:00\0"),
        (0x927C, _UNDEFINED, maker_note),
    ]
    tags.append((0x8769, _LONG, long(block.directory(camera))))
    if place:
        gps = [
            (1, _ASCII, b"N\0"),
            (2, _RATIONAL, rationals),
            (28, _UNDEFINED, b"ASCII\0\0\0" + PLACE),
        ]
        tags.append((0x8825, _LONG, long(block.directory(gps))))
    at = block.append(preview)
    small = [(0x0201, _LONG, long(at)), (0x0202, _LONG, long(len(preview)))]
    return block.finish(block.directory(tags, block.directory(small)))
