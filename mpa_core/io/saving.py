"""A picture as the bytes of a file, with as much of its metadata as the format can hold.

The picture is written even if its metadata do not fit: the largest part of them that fits is
written, and a text says what was left out.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

from mpa_core.io.icc import to_srgb
from mpa_core.io.metadata import exif_for, reduced_exif

# JPEG has room for 255 segments of a profile. PNG has no limit of its own, but Pillow, and thereby
# much that reads pictures, refuses a whole file for a longer one.
_LONGEST_PROFILE = {"JPEG": 255 * 65_519, "PNG": 2**20}

_ADVICE = "write another format to keep it"


def to_bytes(
    image: Image.Image,
    kind: str,
    *,
    icc_profile: bytes | None,
    exif: bytes | None,
    options: Mapping[str, Any],
) -> tuple[bytes, list[str]]:
    """Return ``image`` in the format ``kind``, and a text on each part of the metadata left out.

    If a profile does not fit, the colours are converted to sRGB, so that the picture looks the
    same.

    Args:
        image: RGB.
        kind: Pillow's name of the format.
        icc_profile: ICC profile of its colours.
        exif: EXIF block, beginning with its TIFF header.
        options: options of Pillow's writer.

    Raises:
        Exception: whatever Pillow raises if the picture alone cannot be written.
    """
    # A copy without ``info``, whose other entries (comments, dpi, XMP) are not to be written.
    bare = image.copy()
    bare.info = {}
    lost = []
    if icc_profile and len(icc_profile) > _LONGEST_PROFILE.get(kind, len(icc_profile)):
        size = f"the ICC profile of {len(icc_profile)} bytes cannot go into {kind}"
        converted = to_srgb(bare, icc_profile) if bare.mode == "RGB" else None
        done = "left out" if converted is None else "left out, and the colours converted to sRGB"
        bare = bare if converted is None else converted
        lost.append(f"{size}; it was {done}; {_ADVICE}")
        icc_profile = None
    settings = {**options, "icc_profile": icc_profile or None}
    if not exif:
        return _save(bare, kind, settings), lost
    found = f"the EXIF of {len(exif)} bytes cannot go into {kind} as it is"
    for part, left_out in reduced_exif(exif):
        try:
            data = _save(bare, kind, {**settings, "exif": exif_for(kind, part)})
        except Exception:  # noqa: BLE001, S112 -- if the picture is at fault, the last line says so
            continue
        if left_out:
            lost.append(f"{found}; {left_out} left out; {_ADVICE}")
        return data, lost
    lost.append(f"{found}; it was left out; {_ADVICE}")
    return _save(bare, kind, settings), lost


def _save(image: Image.Image, kind: str, options: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
