"""Pictures: damaged files of every format Pillow writes here, through loading and conversion."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zlib
from pathlib import Path

import bytes_mutations
import numpy as np
from PIL import Image, features

from mpa_core.errors import PictureWarning
from mpa_core.io.images import load_image, to_rgb_tensor

PIXELS = 2**20
"""Most pixels accepted, in place of Pillow's limit: what a picture takes follows from this."""
BYTES_PER_PIXEL = 48
"""The decoder's own buffer, Pillow's copy, the converted copy, and float32 three times."""
FORMATS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("PNG", "RGB", {}),
    ("PNG", "RGBA", {"icc_profile": b"profile" * 9}),
    ("PNG", "P", {"transparency": 3}),
    ("PNG", "I;16", {}),
    ("JPEG", "RGB", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"}),
    ("JPEG", "L", {"progressive": True}),
    ("JPEG", "CMYK", {}),
    ("WEBP", "RGBA", {"lossless": True}),
    ("WEBP", "RGB", {"quality": 60}),
    ("TIFF", "RGB", {}),
    ("TIFF", "L", {"compression": "tiff_lzw"}),
    ("TIFF", "RGB", {"compression": "tiff_adobe_deflate"}),
    ("TIFF", "1", {"compression": "group4"}),
    ("GIF", "P", {}),
    ("BMP", "RGB", {}),
    ("BMP", "P", {}),
    ("PPM", "RGB", {}),
    ("TGA", "RGB", {"compression": "tga_rle"}),
    ("PCX", "L", {}),
    ("SGI", "RGB", {"rle": True}),
    ("ICO", "RGBA", {}),
    ("ICNS", "RGBA", {}),
    ("DDS", "RGBA", {}),
    ("DIB", "RGB", {}),
    ("MSP", "1", {}),
    ("XBM", "1", {}),
    ("QOI", "RGB", {}),
    *((("JPEG2000", "RGB", {}),) if features.check("jpg_2000") else ()),
    *((("AVIF", "RGB", {"speed": 10}),) if features.check("avif") else ()),
)


class Target:
    limit_s = 5.0

    def __init__(self, _: Path) -> None:
        Image.MAX_IMAGE_PIXELS = PIXELS
        self._seeds = [(kind, _file(*row)) for row in FORMATS for kind in (row[0],)]
        frames = [Image.new("RGB", (20, 10), color) for color in ("red", "green", "blue")]
        for kind in ("GIF", "PNG", "WEBP", "TIFF"):
            buffer = io.BytesIO()
            frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
            self._seeds.append((kind, buffer.getvalue()))
        for _, data in self._seeds:
            Image.open(io.BytesIO(data)).load()

    def make(self, rng: random.Random) -> bytes:
        kind, data = rng.choice(self._seeds)
        if kind == "PNG" and rng.random() < 0.8:
            return _forge_png(data, rng)
        return bytes_mutations.mutate(data, rng)

    def prepare(self, case: bytes) -> bytes:
        return case

    def run(self, case: bytes) -> str:
        picture = load_image(io.BytesIO(case), frame=case[-1] % 2 if case[-1:] > b"\xe0" else None)
        assert picture.width * picture.height <= PIXELS
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PictureWarning)
            tensor = to_rgb_tensor(picture).tensor
        assert tensor.shape[:2] == (1, 3)
        assert sorted(tensor.shape[2:]) == sorted(picture.size)  # it may have been turned
        assert 0 <= float(tensor.min()) <= float(tensor.max()) <= 1
        return "accepted"

    def allowance(self, case: bytes) -> int:
        return 2**26 + BYTES_PER_PIXEL * PIXELS + 100 * len(case)


def _file(kind: str, mode: str, options: dict[str, object]) -> bytes:
    rng = np.random.default_rng(1)
    size = (64, 64) if kind in ("ICO", "ICNS") else (40, 24)
    colors = np.linspace(0, 180, size[0] * size[1] * 3).reshape(size[1], size[0], 3)
    picture = Image.fromarray((colors + rng.integers(0, 60, colors.shape)).astype(np.uint8))
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    else:
        picture = picture.convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _forge_png(data: bytes, rng: random.Random) -> bytes:
    """Chunks changed, and their checksums made right."""
    chunks, at = [], 8
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        chunks.append((name, data[at + 8 : at + 8 + length]))
        at += 12 + length
    for _ in range(rng.choice((1, 1, 2))):
        i = rng.randrange(len(chunks))
        name, body = chunks[i]
        kind = rng.randrange(5)
        if kind < 2 and body:
            chunks[i] = (name, bytes_mutations.mutate(body, rng))
        elif kind == 2:
            bomb = zlib.compress(bytes(10**6))
            name, body = rng.choice(
                ((b"zTXt", b"a\0\0" + bomb), (b"iCCP", b"a\0\0" + bomb), (b"IDAT", bomb))
            )
            chunks.insert(rng.randrange(1, len(chunks) + 1), (name, body))
        elif kind == 3:
            chunks.insert(rng.randrange(len(chunks) + 1), rng.choice(chunks))
        else:
            del chunks[i]
        if not chunks:
            break
    out = data[:8]
    for name, body in chunks:
        out += struct.pack(">I4s", len(body), name) + body
        out += struct.pack(">I", zlib.crc32(name + body))
    return out
