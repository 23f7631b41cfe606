"""Photos with stamps pasted on them, and the exact mask of each class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mpa_core.tasks import Indexed, Sample, plugin_generator
from mpa_plugins.seg.stamps import Stamp, as_array

_STREAM = 41
"""Number of the random stream; see :mod:`mpa_core.tasks.seeds`."""

AREA_PER_STAMP = 112**2
"""Pixels of the picture for each stamp: five stamps on a crop of 256."""

SIDES = (32, 112)
"""Range of the longer side of a pasted stamp in pixels, drawn uniformly on a logarithmic scale."""

MAX_ENLARGEMENT = 1.5
"""Largest factor by which a small stamp is enlarged: otherwise it would be the only blurred
object."""

OUTSIDE = 0.25
"""Largest share of a stamp's sides that may lie beyond the border of the picture."""


@dataclass(frozen=True)
class Placed:
    """A stamp with its size and place in the picture."""

    stamp: Stamp
    size: tuple[int, int]
    """Width and height in pixels."""
    left: int
    top: int
    flip: bool

    def pixels(self) -> NDArray[np.uint8]:
        """Return RGBA [h, w, 4] uint8 at its size."""
        image = self.stamp.image.resize(self.size, Image.Resampling.BICUBIC)
        array = as_array(image)
        return array[:, ::-1] if self.flip else array


def place(
    stamps: Sequence[Stamp], width: int, height: int, random: np.random.Generator
) -> list[Placed]:
    """Arrange stamps at random on a picture of ``width`` x ``height``, from back to front."""
    placed = []
    by_class: dict[int, list[Stamp]] = {}
    for stamp in stamps:
        by_class.setdefault(stamp.label, []).append(stamp)
    labels = sorted(by_class)
    for _ in range(max(1, round(width * height / AREA_PER_STAMP))):
        # Classes are equally likely, however many stamps they have.
        choice = by_class[labels[int(random.integers(len(labels)))]]
        stamp = choice[int(random.integers(len(choice)))]
        longer = max(stamp.image.size)
        side = math.exp(random.uniform(math.log(SIDES[0]), math.log(SIDES[1])))
        scale = min(side / longer, MAX_ENLARGEMENT)
        size = (
            max(1, round(stamp.image.width * scale)),
            max(1, round(stamp.image.height * scale)),
        )
        left, top = (
            round(random.uniform(-OUTSIDE * part, whole - (1 - OUTSIDE) * part))
            for part, whole in zip(size, (width, height), strict=True)
        )
        placed.append(Placed(stamp, size, left, top, bool(random.integers(2))))
    return placed


def paste(
    photo: NDArray[np.uint8], placed: Sequence[Placed]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Blend ``placed`` over ``photo`` [H, W, 3] uint8, in order.

    Returns:
        The picture and its labels [H, W]: the class of the last stamp that covers a pixel by half
            or more, 0 for the photo itself.
    """
    picture = photo.astype(np.float32)
    labels = np.zeros(photo.shape[:2], np.int64)
    for item in placed:
        stamp = item.pixels()
        top, left = max(0, item.top), max(0, item.left)
        bottom = min(photo.shape[0], item.top + stamp.shape[0])
        right = min(photo.shape[1], item.left + stamp.shape[1])
        part = stamp[top - item.top : bottom - item.top, left - item.left : right - item.left]
        here = (slice(top, bottom), slice(left, right))
        alpha = part[..., 3:].astype(np.float32) / 255
        picture[here] += alpha * (part[..., :3] - picture[here])
        labels[here][part[..., 3] >= 128] = item.stamp.label
    return np.rint(picture).astype(np.uint8), labels


class Composites(Indexed[Sample]):
    """Photos with stamps on them; target ``mask``, int64 [H, W]. The same at every call.

    Args:
        photos: the photos to paste on.
        stamps: the stamps to paste.
        seed: seed that fixes the arrangement.
    """

    def __init__(self, photos: Sequence[Sample], stamps: Sequence[Stamp], *, seed: int) -> None:
        self.photos = photos
        self.stamps = stamps
        self.seed = seed

    def __len__(self) -> int:
        return len(self.photos)

    def item(self, index: int) -> Sample:
        """Return sample ``index``.

        Raises:
            ImageError: its photo is damaged.
        """
        photo = self.photos[index].image
        random = plugin_generator(self.seed, _STREAM, index)
        placed = place(self.stamps, photo.shape[1], photo.shape[0], random)
        picture, labels = paste(photo, placed)
        return Sample(picture, {"mask": torch.from_numpy(labels)})
