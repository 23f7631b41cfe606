"""Weights of pixels for files that are made to be read: bits go to the lines of text."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from mpa_core.tasks import to_tensor
from mpa_plugin_ocr.finder import Finder, load_finder

OUTSIDE = 0.02
"""Weight of a pixel that is on no line."""


def text_importance(image: Image.Image, *, outside: float = OUTSIDE) -> NDArray[np.float32]:
    """Return the weight of each pixel of a picture, [H, W], for ``codec.encode(importance=…)``.

    It is 1 on the lines of text that the detector finds, and ``outside`` elsewhere; 1 everywhere on
    a picture without text.

    Args:
        image: seen upright, as its EXIF says, as the codec does.
        outside: above 0 and at most 1. The lower it is, the more bits go to the text, and the worse
            the rest looks.

    Raises:
        ValueError: ``outside`` is another number.
    """
    if not 0 < outside <= 1:
        raise ValueError(f"outside is {outside}, expected a number above 0 and at most 1; give one")
    upright = ImageOps.exif_transpose(image).convert("RGB")
    boxes = _finder()(to_tensor(np.array(upright))[None])[0]
    mask = Image.new("F", upright.size, outside if len(boxes) else 1.0)
    draw = ImageDraw.Draw(mask)
    for box in boxes.tolist():
        draw.polygon(corners(*box), fill=1.0)
    return np.array(mask)


def corners(
    x: float, y: float, width: float, height: float, angle: float
) -> list[tuple[float, float]]:
    """Return the corners of a box of a line, (x, y) each, in turn."""
    along = np.array([np.cos(angle), -np.sin(angle)]) * width / 2
    down = np.array([np.sin(angle), np.cos(angle)]) * height / 2
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    found = [np.array([x, y]) + a * along + b * down for a, b in signs]
    return [(float(corner[0]), float(corner[1])) for corner in found]


@cache
def _finder() -> Finder:
    return load_finder()
