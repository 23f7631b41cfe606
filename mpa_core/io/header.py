"""The parts of a picture file's header that say how to read its numbers, beyond 8-bit sRGB.

Pillow returns the numbers, but not always their meaning: bits per sample, the direction of gray,
and the colour tags of PNG, TIFF, BMP, AVIF and JPEG 2000 are read here, before the file is closed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from PIL import Image

Primaries = tuple[float, ...]
"""CIE 1931 x and y of white, red, green and blue."""

SRGB_PRIMARIES: Primaries = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)

_KEY = "mpa_header"
_BOX_LIMIT = 2**24
"""Largest number of bytes that are read of a box of metadata."""

# Of Rec. ITU-T H.273, which PNG's cICP and AVIF's nclx refer to; 2 is "unspecified".
_CODED_PRIMARIES: dict[int, Primaries | None] = {
    1: None,
    2: None,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (0.3127, 0.3290, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (0.3127, 0.3290, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (0.3127, 0.3290, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
_CODED_GAMMA: dict[int, float | None] = {2: None, 4: 2.2, 5: 2.8, 8: 1.0, 13: None}
_HDR = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True)
class Header:
    """The facts for reading a picture's numbers; by default 8 or 16 bits, black at 0, sRGB."""

    bits: int = 16
    """Significant bits of the numbers that Pillow returns as 16-bit gray."""
    inverted: bool = False
    """Whether 0 of 16-bit gray is white."""
    icc_profile: bytes | None = None
    gamma: float | None = None
    """Light is the number to this power; None is the curve of sRGB."""
    primaries: Primaries | None = None
    """Primaries of the colours; None is those of sRGB."""
    ignored: tuple[str, ...] = ()
    """Statements of the file that cannot be followed."""
    refusal: str | None = None
    """Reason why the numbers that Pillow returns cannot be used, and advice; None if they can."""


def read_header(image: Image.Image) -> Header:
    """Read the header of the file of ``image``, which must not be loaded: that closes the file.

    For an image that is loaded or was copied, the data that Pillow keeps (``info``, TIFF tags)
    still count.
    """
    kept = image.info.get(_KEY)
    if isinstance(kept, Header):
        return kept
    header = _of_info(image.info)
    reader = _READERS.get(image.format or "")
    if reader is None:
        return header
    try:
        return reader(image, header)
    except (struct.error, IndexError, ValueError):
        return replace(header, ignored=(*header.ignored, f"colour of a damaged {image.format}"))


def keep_header(image: Image.Image, header: Header) -> None:
    """Store ``header`` in an image whose file is closed; its copies keep it, too."""
    image.info[_KEY] = header


def _of_info(info: dict[Any, Any]) -> Header:
    """Read ICC profile, or the PNG chunks sRGB, gAMA and cHRM, in PNG's order of precedence."""
    profile = info.get("icc_profile")
    ignored: tuple[str, ...] = ()
    if isinstance(profile, bytes) and profile:
        return Header(icc_profile=profile)
    if profile is None and "icc_profile" in info:
        ignored = ("a damaged ICC profile",)
    header = Header(ignored=ignored)
    if "srgb" in info:
        return header
    if info.get("chromaticity") is not None:
        header = _with_primaries(header, info["chromaticity"], "cHRM")
    if info.get("gamma") is not None:
        header = _with_gamma(header, info["gamma"])
    return header


def _with_gamma(header: Header, encoding: float) -> Header:
    """Add ``encoding``, as gAMA gives it; 1 / 2.2, however rounded, stands for sRGB."""
    if not 0.01 <= encoding <= 10:
        return replace(header, ignored=(*header.ignored, f"the gamma {encoding:g}"))
    if 0.45 <= encoding <= 0.46:
        return header
    return replace(header, gamma=1 / encoding)


def _with_primaries(header: Header, found: Primaries, source: str) -> Header:
    if all(abs(a - b) < 0.002 for a, b in zip(found, SRGB_PRIMARIES, strict=True)):
        return header
    (xw, yw), red, green, blue = (found[i : i + 2] for i in range(0, 8, 2))
    area = (green[0] - red[0]) * (blue[1] - red[1]) - (blue[0] - red[0]) * (green[1] - red[1])
    if min(found[1::2]) <= 0 or yw < 0.01 or xw < 0.01 or abs(area) < 0.01:
        return replace(
            header, ignored=(*header.ignored, f"primaries that span no colours ({source})")
        )
    return replace(header, primaries=found)


def _with_code_points(
    header: Header, primaries: int, transfer: int, source: str, *, full_range: bool = True
) -> Header:
    """Set the colour by the code points of H.273, which replace all other statements."""
    said = Header(bits=header.bits, inverted=header.inverted)
    if transfer in _HDR:
        return replace(
            said,
            refusal=f"the image is HDR ({_HDR[transfer]}, says its {source}), expected a picture "
            "for a standard display; tone-map it to sRGB first",
        )
    ignored = []
    if transfer not in _CODED_GAMMA:
        ignored.append(f"the transfer function {transfer} ({source})")
    if primaries not in _CODED_PRIMARIES:
        ignored.append(f"the primaries {primaries} ({source})")
    if not full_range:
        ignored.append(f"the narrow range ({source})")
    return replace(
        said,
        gamma=_CODED_GAMMA.get(transfer),
        primaries=_CODED_PRIMARIES.get(primaries),
        ignored=tuple(ignored),
    )


# ---------------------------------------------------------------------- formats


def _png(image: Image.Image, header: Header) -> Header:
    with _file(image) as file:
        if file is None:
            return header
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">L4s", head)
            if name == b"cICP":
                primaries, transfer, _, full = struct.unpack(">4B", file.read(4))
                return _with_code_points(header, primaries, transfer, "cICP", full_range=bool(full))
            if name == b"IDAT":
                break
            file.seek(length + 4, 1)
    return header


def _tiff(image: Image.Image, header: Header) -> Header:
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    photometric, planar = tags.get(262), tags.get(284, 1)
    bits = _several(tags.get(258, 1))
    if 2 in _several(tags.get(339, 1)) and image.mode == "L":
        return replace(
            header,
            refusal="the image has signed samples, expected 0 to 255; add 128 or scale them first",
        )
    if planar == 2 and max(bits) > 8 and tags.get(259, 1) == 1:
        return replace(
            header,
            refusal=f"the image is an uncompressed TIFF of {max(bits)} bits with its channels in "
            "separate planes, which Pillow misreads; store it chunky (PlanarConfiguration 1)",
        )
    if photometric == 5 and tags.get(332, 1) != 1:
        return replace(
            header, refusal="the image has other inks than CMYK; convert it to RGB first"
        )
    if image.mode.startswith("I;16"):
        header = replace(header, bits=bits[0], inverted=photometric == 0)
    if header.icc_profile is not None:
        return header
    if 318 in tags and 319 in tags:
        found = tuple(float(v) for v in (*tags[318], *tags[319]))
        header = (
            _with_primaries(header, found, "PrimaryChromaticities")
            if len(found) == 8
            else replace(header, ignored=(*header.ignored, "PrimaryChromaticities"))
        )
    curves = tuple(
        name for tag, name in ((291, "GrayResponseCurve"), (301, "TransferFunction")) if tag in tags
    )
    return replace(header, ignored=header.ignored + curves)


def _bmp(image: Image.Image, header: Header) -> Header:
    with _file(image) as file:
        if file is None:
            return header
        file.seek(14)
        block = file.read(124)
        size = struct.unpack_from("<L", block)[0]
        if size < 108:
            return header
        (space,) = struct.unpack_from("<L", block, 56)
        if space == 0x4C494E4B:  # LINK
            return replace(header, ignored=("a linked ICC profile",))
        if space == 0x4D424544 and size >= 124:  # MBED
            place, length = struct.unpack_from("<2L", block, 112)
            file.seek(14 + place)
            return replace(header, icc_profile=file.read(min(length, _BOX_LIMIT)))
    if space != 0:  # sRGB, or the default of Windows, which is sRGB
        return header
    ends, gammas = struct.unpack_from("<9l", block, 60), struct.unpack_from("<3L", block, 96)
    sums = [sum(ends[i : i + 3]) for i in (0, 3, 6)]
    if all(sums):
        found = [ends[3 * i + j] / sums[i] for i in range(3) for j in range(2)]
        if any(abs(a - b) > 0.002 for a, b in zip(found, SRGB_PRIMARIES[2:], strict=True)):
            header = replace(header, ignored=("the end points of a calibrated BMP",))
    if any(g and not (0.45 <= g / 65536 <= 0.46 or 2.17 <= g / 65536 <= 2.23) for g in gammas):
        header = replace(header, ignored=(*header.ignored, "the gamma of a calibrated BMP"))
    return header


def _avif(image: Image.Image, header: Header) -> Header:
    if header.icc_profile is not None:
        return header
    with _file(image) as file:
        meta = _top_box(file, b"meta")[4:]
    inner = dict(_boxes(meta))
    if not {b"pitm", b"iprp"} <= inner.keys():
        return header
    primary = struct.unpack_from(">L" if inner[b"pitm"][0] else ">H", inner[b"pitm"], 4)[0]
    properties = dict(_boxes(inner[b"iprp"]))
    listed = list(_boxes(properties[b"ipco"]))
    for index in _properties_of(properties[b"ipma"], primary):
        name, body = listed[index - 1]
        if name == b"colr" and body[:4] == b"nclx":
            primaries, transfer = struct.unpack_from(">2H", body, 4)
            return _with_code_points(header, primaries, transfer, "nclx")
    return header


def _properties_of(table: bytes, wanted: int) -> list[int]:
    """Return the one-based properties of an item in an ``ipma`` box."""
    wide_ids, wide_places = table[0] >= 1, table[3] & 1
    (count,) = struct.unpack_from(">L", table, 4)
    place = 8
    for _ in range(count):
        (item,) = struct.unpack_from(">L" if wide_ids else ">H", table, place)
        place += 4 if wide_ids else 2
        links, place = table[place], place + 1
        form = f">{links}{'H' if wide_places else 'B'}"
        found = struct.unpack_from(form, table, place)
        place += struct.calcsize(form)
        if item == wanted:
            return [value & (0x7FFF if wide_places else 0x7F) for value in found if value]
    return []


def _jpeg2000(image: Image.Image, header: Header) -> Header:
    with _file(image) as file:
        found = [body for name, body in _boxes(_top_box(file, b"jp2h")) if name == b"colr"]
    if not found:
        return header
    for body in found:
        if body[0] in (2, 3):
            return replace(header, icc_profile=body[3:])
        space = struct.unpack_from(">L", body, 3)[0] if body[0] == 1 else 0
        if space in (12, 16, 17, 18):  # CMYK, sRGB, its gray, its YCC: all known to Pillow
            return header
    return replace(header, ignored=("the colour space of a JPEG 2000 file",))


_READERS: dict[str, Callable[[Image.Image, Header], Header]] = {
    "PNG": _png,
    "TIFF": _tiff,
    "BMP": _bmp,
    "AVIF": _avif,
    "JPEG2000": _jpeg2000,
}


# ---------------------------------------------------------------------- reading


@contextmanager
def _file(image: Image.Image) -> Iterator[BinaryIO | None]:
    """Yield the open file of an image, and restore its position; None if it is closed."""
    file = getattr(image, "fp", None)
    if file is None or getattr(file, "closed", False):
        yield None
        return
    place = file.tell()
    try:
        yield file
    finally:
        file.seek(place)


def _top_box(file: BinaryIO | None, wanted: bytes) -> bytes:
    """Return the content of a box of an ISO media or JPEG 2000 file; empty if there is none."""
    if file is None:
        return b""
    file.seek(0)
    while len(head := file.read(8)) == 8:
        size, name = struct.unpack(">L4s", head)
        header = 8
        if size == 1:
            size, header = struct.unpack(">Q", file.read(8))[0], 16
        length = size - header if size else _BOX_LIMIT
        if name == wanted:
            return file.read(max(0, min(length, _BOX_LIMIT)))
        if not 0 <= length < 2**62 or size == 0:
            break
        file.seek(length, 1)
    return b""


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(data):
        size, name = struct.unpack_from(">L4s", data, place)
        if size < 8:
            size = len(data) - place
        yield name, data[place + 8 : place + size]
        place += size


def _several(value: Any) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)
