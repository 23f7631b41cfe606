"""The frozen detector: where the lines of text in a picture are, as boxes to cut out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from torch import Tensor

from mpa_core.tasks import freeze
from mpa_plugin_ocr.detector_network import MULTIPLE, TextDetector
from mpa_plugin_ocr.ppocr import PpOcr

WEIGHTS = Path(__file__).parent / "detector" / "ppocrv4-det.safetensors"

ENLARGED = 3.0
"""Pictures are looked at so many times as large, for letters of few pixels, ..."""
MOST_PIXELS = 4e6
"""... unless they then have more pixels than this: they are enlarged as far as it allows."""
LIKELY = 0.3
"""Probability from which on a pixel is part of a line."""
SURE = 0.5
"""Mean probability of the pixels of a line from which on it is one."""
SMALLEST = 3.0
"""Fewest pixels that the core of a line is high, on the picture that the network sees."""
GROWTH = 2.0
"""The network finds the core of a line: it grows on every side by this times area / perimeter."""
TALL = 1.5
"""Height of a box for its width from which on its text is taken to run down."""

Array = NDArray[np.float64]


class Finder(PpOcr):
    """PP-OCRv4's detector on pictures in [0, 1], with what comes before and after its network."""

    def __init__(self) -> None:
        super().__init__(TextDetector(), WEIGHTS)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """RGB pictures [B, 3, H, W] in [0, 1] -> boxes [B, K, 5] of lines, as
        :func:`~mpa_plugin_ocr.reader.cut_lines` takes them, from the top down; those of pictures
        with fewer than K lines are 0 from the last on."""
        size = images.shape[2:]
        times = min(ENLARGED, max(1.0, math.sqrt(MOST_PIXELS / math.prod(size))))
        seen = [MULTIPLE * max(1, round(times * side / MULTIPLE)) for side in size]
        found = []
        for image in images:
            sized = F.interpolate(image[None], seen, mode="bilinear", antialias=True)
            likely = self.network(self.prepare(sized)).sigmoid()[0, 0]
            found.append(boxes_of(likely.cpu().numpy(), (size[1] / seen[1], size[0] / seen[0])))
        boxes = np.zeros((len(found), max(map(len, found), default=0), 5))
        for row, each in zip(boxes, found, strict=True):
            row[: len(each)] = each
        return torch.from_numpy(boxes).to(images)


def load_finder() -> Finder:
    """The detector with its weights, frozen; torch's random state is left as it was."""
    with torch.random.fork_rng(devices=[]):  # layers are made with random weights first
        return freeze(Finder())


def boxes_of(likely: NDArray[np.float32], scale: tuple[float, float]) -> Array:
    """The boxes [K, 5] of lines on a map [H, W] of probabilities, in pixels of a picture that has
    ``scale`` times its columns and rows."""
    # Pixels of a line touch, if only at their corners.
    labels, _ = ndimage.label(likely > LIKELY, np.ones((3, 3)))
    boxes = []
    for number, place in enumerate(ndimage.find_objects(labels), 1):
        inside = labels[place] == number
        if likely[place][inside].mean() < SURE:
            continue
        rows, columns = inside.nonzero()
        points = np.stack([columns + place[1].start, rows + place[0].start], 1)
        corners = np.concatenate([points + np.array([x, y]) for x in (0, 1) for y in (0, 1)])
        x, y, width, height, angle = smallest_rectangle(corners * scale)
        if min(width, height) < SMALLEST * min(scale):
            continue
        more = GROWTH * width * height / (width + height)  # on two sides
        boxes.append(along_text(np.array([x, y, width + more, height + more, angle])))
    return np.array(boxes).reshape(-1, 5)


def along_text(box: Array) -> Array:
    """A rectangle [5] with its angle in [0, pi / 2) as the box of a line, whose width is along the
    text: from left to right, or down where the box is much higher than wide."""
    x, y, width, height, angle = box
    if angle > math.pi / 4:
        width, height, angle = height, width, angle - math.pi / 2
    if height > TALL * width:
        width, height, angle = height, width, angle - math.pi / 2
    return np.array([x, y, width, height, angle])


def smallest_rectangle(points: Array) -> Array:
    """The rectangle of least area around points [N, 2]: (x, y, width, height, angle), the angle
    counter-clockwise as it is seen, where y goes down."""
    hull = points[ConvexHull(points).vertices]
    edges = np.roll(hull, -1, 0) - hull
    # One of its sides lies along the hull.
    angles = np.unique(np.arctan2(-edges[:, 1], edges[:, 0]) % (math.pi / 2))
    along = np.stack([np.cos(angles), -np.sin(angles)], 1)
    down = np.stack([np.sin(angles), np.cos(angles)], 1)
    spans = [hull @ axes.T for axes in (along, down)]
    low, high = (np.stack([each(span, 0) for span in spans], 1) for each in (np.min, np.max))
    best = int(np.argmin((high - low).prod(1)))
    middle = (low[best] + high[best]) / 2 @ np.stack([along[best], down[best]])
    return np.array([*middle, *(high[best] - low[best]), angles[best]])
