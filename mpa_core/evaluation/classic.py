"""JPEG and WebP at their best settings, as the yardstick beside a learned codec."""

from __future__ import annotations

import io
from functools import partial
from typing import Any, Literal, NamedTuple

from PIL import Image

ClassicFormat = Literal["JPEG", "WEBP"]

SETTINGS = range(1, 101)
"""Quality settings tried; both formats accept 1 (smallest) to 100."""

# What makes each file smallest at a given quality, with the format's default chroma subsampling.
_OPTIONS: dict[ClassicFormat, dict[str, Any]] = {
    "JPEG": {"optimize": True, "progressive": True},
    "WEBP": {"method": 6},
}


class ClassicFile(NamedTuple):
    """One file of a classic codec."""

    format: ClassicFormat
    setting: int
    """Quality setting it was written with, 1 to 100."""
    data: bytes

    def decode(self) -> Image.Image:
        """Return the picture in the file, 8-bit RGB."""
        with Image.open(io.BytesIO(self.data)) as image:
            decoded: Image.Image = image.convert("RGB")
        return decoded


def pixels_only(image: Image.Image) -> Image.Image:
    """Return ``image`` as 8-bit RGB without EXIF and ICC profile, so that only pixels are coded."""
    rgb = image.convert("RGB")
    return Image.frombytes("RGB", rgb.size, rgb.tobytes())


def encode(image: Image.Image, file_format: ClassicFormat, setting: int) -> ClassicFile:
    """Write ``image`` without metadata; ``setting`` from 1 (smallest file) to 100."""
    buffer = io.BytesIO()
    pixels_only(image).save(buffer, file_format, quality=setting, **_OPTIONS[file_format])
    return ClassicFile(file_format, setting, buffer.getvalue())


def nearest_in_size(image: Image.Image, file_format: ClassicFormat, num_bytes: int) -> ClassicFile:
    """Return the file whose size is nearest ``num_bytes``, over all quality settings.

    Sizes grow with the setting, so a bisection finds the pair of settings around the target. The
    lowest setting is returned when even that is larger than ``num_bytes``.
    """
    make = partial(encode, image, file_format)
    low, high = make(SETTINGS[0]), make(SETTINGS[-1])
    while high.setting - low.setting > 1:
        middle = make((low.setting + high.setting) // 2)
        if len(middle.data) <= num_bytes:
            low = middle
        else:
            high = middle
    return min(low, high, key=lambda file: abs(len(file.data) - num_bytes))
