"""Photos with stamps pasted on them, and the exact box and class of each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mpa_core.tasks import Indexed, Sample, plugin_generator
from mpa_plugin_detection.stamps import Stamp

_STREAM = 51
"""Stream of the seed; see ``mpa_core.tasks.plugin_generator``."""

AREA_PER_STAMP = {"train": 128**2, "test": 192**2}
"""Pixels of the picture for each stamp: two on a crop of 192, eleven on 768 x 512 pixels."""

SIDES = (56, 184)
"""Longer side of a pasted stamp in pixels, drawn uniformly on a logarithmic scale."""

LARGEST_SHARE = 0.9
"""A stamp is not longer than this share of the picture's shorter side."""

TRIES = 20
"""Places that are drawn for a stamp; it is left out if it would cover another one at each."""

MOST_OBJECTS = 64
"""Targets have so many rows, so that a batch can be stacked; more are not pasted."""

Placed = tuple[Stamp, tuple[int, int, int, int]]
"""A stamp and its box: left, top, right, bottom in whole pixels."""


def place(
    stamps: Sequence[Stamp], width: int, height: int, count: int, random: np.random.Generator
) -> list[Placed]:
    """At most ``count`` stamps on a picture of ``width`` x ``height``, of which no two overlap."""
    by_class: dict[int, list[Stamp]] = {}
    for stamp in stamps:
        by_class.setdefault(stamp.label, []).append(stamp)
    labels = sorted(by_class)
    placed: list[Placed] = []
    for _ in range(count):
        # Classes are equally likely, however many stamps they have.
        choice = by_class[labels[int(random.integers(len(labels)))]]
        stamp = choice[int(random.integers(len(choice)))]
        side = math.exp(random.uniform(math.log(SIDES[0]), math.log(SIDES[1])))
        scale = min(side, LARGEST_SHARE * min(width, height)) / max(stamp.image.size)
        w, h = (max(1, round(scale * length)) for length in stamp.image.size)
        for _ in range(TRIES):
            left, top = int(random.integers(width - w + 1)), int(random.integers(height - h + 1))
            box = (left, top, left + w, top + h)
            if not any(_overlap(box, other) for _, other in placed):
                placed.append((stamp, box))
                break
    return placed


def paste(photo: NDArray[np.uint8], placed: Sequence[Placed]) -> NDArray[np.uint8]:
    """``photo`` [H, W, 3] with the stamps of ``placed`` blended over it."""
    picture = photo.astype(np.float32)
    for stamp, (left, top, right, bottom) in placed:
        image = stamp.image.resize((right - left, bottom - top), Image.Resampling.BICUBIC)
        pixels = np.asarray(image, dtype=np.float32)
        part = picture[top:bottom, left:right]
        part += pixels[..., 3:] / 255 * (pixels[..., :3] - part)
    return np.rint(picture).astype(np.uint8)


class Composites(Indexed[Sample]):
    """``photos`` with stamps on them, the same at every call.

    Targets: ``boxes``, float32 [MOST_OBJECTS, 4] (left, top, right, bottom in pixels), and
    ``labels``, int64 [MOST_OBJECTS], -1 in the rows that hold no object.

    Args:
        photos: what is pasted on.
        stamps: what is pasted.
        area_per_stamp: pixels of the picture for each.
        seed: another one arranges them otherwise.
    """

    def __init__(
        self,
        photos: Sequence[Sample],
        stamps: Sequence[Stamp],
        *,
        area_per_stamp: int,
        seed: int,
    ) -> None:
        self.photos = photos
        self.stamps = stamps
        self.area_per_stamp = area_per_stamp
        self.seed = seed

    def __len__(self) -> int:
        return len(self.photos)

    def item(self, index: int) -> Sample:
        """Sample ``index``; raises :class:`ImageError` if its photo is damaged."""
        photo = self.photos[index].image
        random = plugin_generator(self.seed, _STREAM, index)
        height, width = photo.shape[:2]
        count = min(MOST_OBJECTS, max(1, round(width * height / self.area_per_stamp)))
        placed = place(self.stamps, width, height, count, random)
        boxes = torch.zeros(MOST_OBJECTS, 4)
        labels = torch.full((MOST_OBJECTS,), -1)
        for row, (stamp, box) in enumerate(placed):
            boxes[row] = torch.tensor(box)
            labels[row] = stamp.label
        return Sample(paste(photo, placed), {"boxes": boxes, "labels": labels})


def _overlap(a: Sequence[int], b: Sequence[int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
