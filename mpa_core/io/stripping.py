"""Removal of a picture's metadata, or of the place where it was taken.

>>> codec.encode(strip(load_image("photo.jpg")))            # doctest: +SKIP
>>> codec.encode(strip_location(load_image("photo.jpg")))   # doctest: +SKIP
"""

from __future__ import annotations

import warnings
from typing import Literal

from PIL import Image

from mpa_core.errors import MetadataWarning
from mpa_core.io.colour import convert_to_srgb
from mpa_core.io.icc import means_srgb
from mpa_core.io.images import to_pil, to_rgb_tensor
from mpa_core.io.location import without_location
from mpa_core.io.metadata import read_exif

What = Literal["all", "location"]
"""The part of the metadata to leave out."""


def strip(image: Image.Image) -> Image.Image:
    """Return the picture alone, looking the same: 8-bit RGB in sRGB, upright, without metadata.

    Metadata that affect how the pixels look are applied before they are removed: colours in a
    profile other than sRGB are converted (those outside sRGB become the nearest inside), and the
    picture is turned by its EXIF orientation. Modes other than RGB become RGB by the rules of
    :mod:`mpa_core.io.images`.

    Raises:
        ImageError: the image has a mode that is refused.

    Warns:
        PictureWarning: a statement of the picture about its colours cannot be followed.
    """
    source = to_rgb_tensor(image)
    picture = to_pil(source.tensor)
    if source.icc_profile and not means_srgb(source.icc_profile):
        picture = convert_to_srgb(picture, source.icc_profile)
        picture.info = {}
    return picture


def strip_location(image: Image.Image) -> Image.Image:
    """Return a copy of ``image`` whose EXIF block names no place; all else in it stays.

    The GPS directory is removed, and so are blocks of XMP, IPTC and Photoshop inside of the EXIF
    block, which can name the place as well. Makers' notes and comments stay; :func:`strip` removes
    those, too.

    Warns:
        MetadataWarning: an EXIF block that cannot be taken apart is left out as a whole.
    """
    copy = image.copy()
    # A copy has no format, and 16-bit gray is told from 32-bit integers by it.
    copy.format = image.format
    exif = read_exif(image)
    left = without_location(exif) if exif else None
    if exif and left is None:
        _warn("the EXIF cannot be taken apart, and was left out as a whole for the place in it")
    for key in ("exif", "Raw profile type exif"):
        copy.info.pop(key, None)
    if left is not None:
        copy.info["exif"] = left
    return copy


def strip_what(image: Image.Image, what: What | None) -> Image.Image:
    """Return ``image`` without ``what``, by :func:`strip` or :func:`strip_location`.

    With None, the image itself is returned.
    """
    if what is None:
        return image
    return strip(image) if what == "all" else strip_location(image)


def _warn(text: str) -> None:
    warnings.warn(MetadataWarning(text), stacklevel=3)
