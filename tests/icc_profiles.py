"""ICC profiles made from numbers, as small as they can be: nobody's work but ours."""

from __future__ import annotations

import struct

import numpy as np

# Of each primary, X, Y and Z by the white of profiles (D50).
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
DISPLAY_P3 = (
    (0.51512, 0.24120, -0.00105),
    (0.29198, 0.69225, 0.04189),
    (0.15710, 0.06657, 0.78407),
)
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
PROPHOTO = ((0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249))
_WHITE = (0.9642, 1.0, 0.8249)


def gamma_curve(gamma: float) -> bytes:
    """One exponent, in 1/256."""
    return struct.pack(">4sIIH", b"curv", 0, 1, round(gamma * 256))


def srgb_table(size: int) -> bytes:
    """The curve of sRGB as a table, as profiles of version 2 have it."""
    x = np.linspace(0, 1, size)
    y = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    values = np.rint(65535 * y).astype(">u2").tobytes()
    return struct.pack(">4sII", b"curv", 0, size) + values


def srgb_formula() -> bytes:
    """The curve of sRGB as a formula, as profiles of version 4 have it."""
    numbers = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return struct.pack(">4sIHH5i", b"para", 0, 3, 0, *(round(65536 * n) for n in numbers))


def profile(
    primaries=SRGB,
    curve: bytes | None = None,
    *,
    name: str = "nameless",
    version: int = 2,
    space: bytes = b"RGB ",
    more: dict[bytes, bytes] | None = None,
) -> bytes:
    """A display profile; ``space`` ``b"GRAY"`` has the curve alone."""
    curve = srgb_table(1024) if curve is None else curve
    text = name.encode("ascii") + b"\0"
    tags = {
        b"desc": struct.pack(">4sII", b"desc", 0, len(text)) + text + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": _xyz(_WHITE),
    }
    if version == 4:
        for tag, value in ((b"desc", name), (b"cprt", "none")):
            words = value.encode("utf-16-be")
            head = struct.pack(">4sIII2s2sII", b"mluc", 0, 1, 12, b"en", b"US", len(words), 28)
            tags[tag] = head + words
    if space == b"GRAY":
        tags[b"kTRC"] = curve
    else:
        for letter, xyz in zip(b"rgb", primaries, strict=True):
            tags[bytes([letter]) + b"XYZ"] = _xyz(xyz)
            tags[bytes([letter]) + b"TRC"] = curve
    tags |= more or {}
    table, body, places = b"", b"", {}
    start = 132 + 12 * len(tags)
    for tag, value in tags.items():
        if value not in places:
            places[value] = start + len(body)
            body += value + bytes(-len(value) % 4)
        table += struct.pack(">4sII", tag, places[value], len(value))
    head = struct.pack(
        ">I4sI4s4s4s12s4s4sIIIQI3i48s",
        *(start + len(body), b"none", version << 24, b"mntr", space, b"XYZ "),
        *(struct.pack(">6H", 2020, 1, 1, 0, 0, 0), b"acsp", b"APPL", 0, 0, 0, 0, 0),
        *(round(65536 * n) for n in _WHITE),
        bytes(48),
    )
    return head + struct.pack(">I", len(tags)) + table + body


def _xyz(xyz: tuple[float, float, float]) -> bytes:
    return struct.pack(">4sI3i", b"XYZ ", 0, *(round(65536 * n) for n in xyz))
