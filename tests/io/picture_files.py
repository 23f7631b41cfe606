"""Picture files made by hand, byte by byte: Pillow writes few of the kinds that it reads."""

from __future__ import annotations

import struct
import zlib

import numpy as np


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(depth: int, color: int, rows: bytes, width: int, *chunks: bytes) -> bytes:
    """One row; ``rows`` begins with its filter, 0."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, color, 0, 0, 0))
    body = b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


def tiff(
    samples: np.ndarray, bits: int, photometric: int, *tags: tuple[int, int, list[int]], planar=1
) -> bytes:
    """Little-endian, uncompressed TIFF of [H, W, C] samples, packed to ``bits`` each.

    ``tags`` are (tag, type 3, 4, 5 or 7, values) in addition.
    """
    height, width, channels = samples.shape
    planes = [samples] if planar == 1 else [samples[..., i : i + 1] for i in range(channels)]
    strips = [_packed(plane, bits) for plane in planes]
    fields = {
        256: (3, [width]),
        257: (3, [height]),
        258: (3, [bits] * channels),
        259: (3, [1]),
        262: (3, [photometric]),
        273: (4, [0] * len(strips)),
        277: (3, [channels]),
        278: (3, [height]),
        279: (4, [len(strip) for strip in strips]),
        284: (3, [planar]),
        **{tag: (kind, values) for tag, kind, values in tags},
    }
    start = 8 + 2 + 12 * len(fields) + 4
    encoded = {tag: _values(kind, values) for tag, (kind, values) in fields.items()}
    outside = sum(len(data) for data in encoded.values() if len(data) > 4)
    places = [start + outside + sum(map(len, strips[:i])) for i in range(len(strips))]
    encoded[273] = _values(4, places)
    directory, extra = b"", b""
    for tag in sorted(fields):
        kind, values = fields[tag]
        count = len(values) // 2 if kind == 5 else len(values)
        data = encoded[tag]
        if len(data) > 4:
            place = struct.pack("<L", start + len(extra))
            extra, data = extra + data, place
        directory += struct.pack("<HHL", tag, kind, count) + data.ljust(4, b"\0")
    head = b"II*\0" + struct.pack("<LH", 8, len(fields)) + directory + bytes(4)
    return head + extra + b"".join(strips)


def _values(kind: int, values: list[int]) -> bytes:
    return struct.pack("<" + {3: "H", 4: "L", 5: "L", 7: "B"}[kind] * len(values), *values)


def _packed(samples: np.ndarray, bits: int) -> bytes:
    if bits in (8, 16):
        return samples.astype(f"<u{bits // 8}").tobytes()
    rows = []
    for row in samples.reshape(samples.shape[0], -1):
        text = "".join(f"{int(value):0{bits}b}" for value in row)
        rows.append(
            int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")
        )
    return b"".join(rows)


def gray_profile(gamma: float) -> bytes:
    """An ICC profile of version 2 for gray; light is the number to the power ``gamma``."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3l", 63190, 65536, 54061)
    curve = b"curv\0\0\0\0" + struct.pack(">LH", 1, round(gamma * 256)) + b"\0\0"
    text = b"text\0\0\0\0free\0\0\0\0"
    tags = {b"wtpt": white, b"kTRC": curve, b"cprt": text}
    place, table, body = 128 + 4 + 12 * len(tags), struct.pack(">L", len(tags)), b""
    for name, data in tags.items():
        table += struct.pack(">4s2L", name, place + len(body), len(data))
        body += data
    head = bytearray(128)
    struct.pack_into(">L", head, 0, place + len(body))
    head[8:24] = struct.pack(">L", 0x02100000) + b"mntrGRAYXYZ "
    head[36:40] = b"acsp"
    head[68:80] = struct.pack(">3l", 63190, 65536, 54061)
    return bytes(head) + table + body


def srgb(light: np.ndarray) -> np.ndarray:
    """Light in [0, 1] to levels of sRGB (IEC 61966-2-1), 0 to 255."""
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * curve)
