"""Tests whether a colour profile is sRGB under another name, and converts pictures to sRGB.

A profile is judged by what it does to colours, never by its name: cameras, editors and browsers
each bring their own sRGB, and not everything that is called sRGB is.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image
from PIL.ImageCms import Intent, PyCMSError

from mpa_core.io.colour import convert_to_srgb

_UNREADABLE = (PyCMSError, OSError, ValueError)
_STEPS = 17
"""Levels per channel of the colours that are tested."""
_TOLERANCE = 1
"""Difference from sRGB, in levels of 256, that rounding in a profile's tables may cause."""
_SRGB_CODES = (1, 13)
"""Primaries and transfer function of sRGB, as numbered in the tag ``cicp`` of a profile."""


@lru_cache(maxsize=32)
def means_srgb(profile: bytes) -> bool:
    """Return whether colours in ``profile`` mean the same as in sRGB, to one level of 256.

    A grid of colours and all grays are converted, by both of the rendering intents that viewers
    use. A profile that cannot be read gives False.

    Args:
        profile: a whole ICC profile.
    """
    codes = _coding_independent_code_points(profile)
    if profile[16:20] != b"RGB " or (codes is not None and codes != _SRGB_CODES):
        return False
    try:
        return all(
            _largest_change(convert_to_srgb(_colours(), profile, intent=intent)) <= _TOLERANCE
            for intent in (Intent.PERCEPTUAL, Intent.RELATIVE_COLORIMETRIC)
        )
    except _UNREADABLE:
        return False


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """Convert an RGB image from ``profile`` to sRGB.

    Colours outside sRGB become the nearest inside.

    Args:
        image: RGB, 8 bits.
        profile: ICC profile of its colours.

    Returns:
        A new image without the profile; None if the profile cannot be read or is not one of RGB.
    """
    try:
        converted = convert_to_srgb(image, profile)
    except _UNREADABLE:
        return None
    converted.info.pop("icc_profile", None)
    return converted


@lru_cache(maxsize=1)
def _colours() -> Image.Image:
    """Return a grid over all colours and every gray, as an image of one row."""
    levels = np.linspace(0, 255, _STEPS).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    grays = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
    return Image.fromarray(np.concatenate([grid, grays])[None])


def _largest_change(converted: Image.Image) -> int:
    change = np.asarray(converted, np.int16) - np.asarray(_colours(), np.int16)
    return int(np.abs(change).max())


def _coding_independent_code_points(profile: bytes) -> tuple[int, int] | None:
    """Return primaries and transfer function of the tag ``cicp``, which overrides all others."""
    for at in range(132, min(132 + 12 * int.from_bytes(profile[128:132], "big"), len(profile)), 12):
        if profile[at : at + 4] == b"cicp":
            start = int.from_bytes(profile[at + 4 : at + 8], "big")
            primaries, transfer = profile[start + 8 : start + 10].ljust(2, b"\0")
            return primaries, transfer
    return None
