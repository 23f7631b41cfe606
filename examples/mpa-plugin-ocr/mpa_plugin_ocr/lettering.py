"""Lines of text rendered on photos: where each is, and what it says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mpa_core.tasks import Indexed, Sample, plugin_generator
from mpa_plugin_ocr.fonts import Font
from mpa_plugin_ocr.reader import Alphabet
from mpa_plugin_ocr.strings import LONGEST, draw_string

_STREAM = 60
"""Stream of the seed; see :func:`mpa_core.tasks.plugin_generator`."""

HEIGHTS = (14.0, 30.0)
"""Height of a line's box in pixels, drawn on a logarithmic scale: letters are half as high."""
TURN = math.radians(4)
"""Largest angle of a line."""
MARGIN = 0.12
"""Room around the letters in a box, as a share of their height from top to bottom."""
TRIES = 12
"""Places tried for a line before it is left out."""
CONTRAST = (0.35, 0.95)
"""Difference in luma between letters and what is behind them, of 1, drawn uniformly."""

_FINE = 4
"""Lines are drawn this many times larger and made smaller after they are turned."""
_LUMA = np.array([0.299, 0.587, 0.114])

Color = NDArray[np.float64]
"""[3] in [0, 1]."""


@dataclass(frozen=True)
class Line:
    """A line as it is written."""

    text: str
    font: Font
    height: float
    """Of its box, in pixels."""
    angle: float
    """Counter-clockwise, in radians."""
    plate: float
    """Opacity of the plate behind it; 0 for none."""
    outlined: bool


class Masks:
    """The pixels of a line around its centre: plate, outline and letters, each [h, w] in [0, 1]."""

    def __init__(self, line: Line) -> None:
        face, top, bottom = _face(line.font, line.height * _FINE / (1 + 2 * MARGIN))
        left, _, right, _ = face.getbbox(line.text)
        room = MARGIN * (bottom - top)
        self.width = (right - left + 2 * room) / _FINE
        """Of the line's box, in pixels of the picture."""
        height = bottom - top + 2 * room
        self.height = height / _FINE
        size = [math.ceil(side / _FINE + 2) * _FINE for side in (right - left + 2 * room, height)]
        origin = ((size[0] - right - left) / 2, (size[1] - bottom - top) / 2)
        stroke = max(1, round(0.05 * height)) if line.outlined else 0
        layers = [Image.new("L", (size[0], size[1])) for _ in range(3)]
        plate, outline, letters = map(ImageDraw.Draw, layers)
        edge = [
            (side - inner) / 2
            for side, inner in zip(size, (self.width * _FINE, height), strict=True)
        ]
        plate.rounded_rectangle(
            (edge[0], edge[1], size[0] - edge[0], size[1] - edge[1]), height / 6, fill=255
        )
        if stroke:
            outline.text(origin, line.text, fill=255, font=face, stroke_width=stroke)
        letters.text(origin, line.text, fill=255, font=face)
        self.plate, self.outline, self.letters = (self._turned(x, line.angle) for x in layers)

    @staticmethod
    def _turned(layer: Image.Image, angle: float) -> NDArray[np.float64]:
        turned = layer.rotate(math.degrees(angle), Image.Resampling.BICUBIC, expand=True)
        sides = [math.ceil(side / (2 * _FINE)) * 2 for side in turned.size]
        middle = Image.new("L", (sides[0] * _FINE, sides[1] * _FINE))
        offset = [(a - b) // 2 for a, b in zip(middle.size, turned.size, strict=True)]
        middle.paste(turned, (offset[0], offset[1]))
        return np.asarray(middle.reduce(_FINE), dtype=np.float64) / 255


@lru_cache(maxsize=256)
def _face(font: Font, height: float) -> tuple[ImageFont.FreeTypeFont, float, float]:
    """``font`` so large that its letters are ``height`` from the top of an H to the bottom of a g,
    and where these two are."""
    probe = ImageFont.truetype(str(font.path), 100)
    _, top, _, bottom = probe.getbbox("Hgl")
    face = ImageFont.truetype(str(font.path), max(4, round(100 * height / (bottom - top))))
    _, top, _, bottom = face.getbbox("Hgl")
    return face, top, bottom


def draw_line(fonts: Sequence[Font], random: np.random.Generator) -> Line:
    """A line with everything about it but its place and its colours."""
    families = sorted({font.family for font in fonts})
    family = families[int(random.integers(len(families)))]
    styles = [font for font in fonts if font.family == family]
    way = random.random()
    return Line(
        text=draw_string(random),
        font=styles[int(random.integers(len(styles)))],
        # Whole pixels, so that few faces are opened.
        height=round(math.exp(random.uniform(math.log(HEIGHTS[0]), math.log(HEIGHTS[1])))),
        angle=random.uniform(-TURN, TURN),
        plate=random.uniform(0.6, 1.0) if way < 0.5 else 0.0,
        outlined=way > 0.75,
    )


def write(
    picture: NDArray[np.float64],
    masks: Masks,
    line: Line,
    left: int,
    top: int,
    random: np.random.Generator,
) -> None:
    """Put a line on ``picture`` [H, W, 3] in [0, 1], in place; its colours are drawn."""
    height, width = masks.letters.shape
    here = picture[top : top + height, left : left + width]
    behind = here[masks.plate > 0.5].mean(0)
    if line.plate:
        color = _tinted(random.random(), random)
        here += (line.plate * masks.plate)[..., None] * (color - here)
        behind = line.plate * color + (1 - line.plate) * behind
    letters = _tinted(_apart(float(behind @ _LUMA), random), random)
    if line.outlined:
        here += masks.outline[..., None] * (
            _tinted(_apart(float(letters @ _LUMA), random), random) - here
        )
    here += masks.letters[..., None] * (letters - here)


def _apart(luma: float, random: np.random.Generator) -> float:
    """A luma so far from another one as :data:`CONTRAST` says, or as far as there is room."""
    wanted = random.uniform(*CONTRAST)
    room = (luma, 1 - luma)  # below, above
    up = random.random() < 0.5 if min(room) >= wanted else room[1] > room[0]
    return luma + min(wanted, room[1]) if up else luma - min(wanted, room[0])


def _tinted(luma: float, random: np.random.Generator) -> Color:
    """A colour of that luma, any hue, of little to full saturation."""
    color = random.random(3)
    color = color - color @ _LUMA  # of luma 0, and so a direction in which luma stays
    with np.errstate(divide="ignore"):
        room = np.where(color > 0, (1 - luma) / color, -luma / color)
    tinted: Color = luma + random.uniform(0, min(1.0, float(room.min()))) * color
    return tinted.clip(0, 1)


class Lettered(Indexed[Sample]):
    """``photos`` with lines of text on them, the same at every call.

    Targets: ``boxes`` float32 [K, 5], in pixels: centre x and y, width, height, and the angle in
    radians, counter-clockwise; ``texts`` int64 [K, :data:`~mpa_plugin_ocr.strings.LONGEST`]: the
    recogniser's indices of the characters, padded with 0. K follows from the size of a picture;
    where a line found no room its box and text are 0.

    Args:
        photos: what is written on.
        fonts: what with.
        seed: another one writes other lines.
        area: pixels of the picture for each line.
    """

    def __init__(
        self, photos: Sequence[Sample], fonts: Sequence[Font], *, seed: int, area: int
    ) -> None:
        self.photos = photos
        self.fonts = fonts
        self.seed = seed
        self.area = area
        self.alphabet = Alphabet()

    def __len__(self) -> int:
        return len(self.photos)

    def item(self, index: int) -> Sample:
        """Sample ``index``; raises :class:`ImageError` if its photo is damaged."""
        photo = self.photos[index].image
        random = plugin_generator(self.seed, _STREAM, index)
        picture = photo / 255.0
        count = max(1, round(photo.shape[0] * photo.shape[1] / self.area))
        boxes = torch.zeros(count, 5)
        texts = torch.zeros(count, LONGEST, dtype=torch.int64)
        taken = np.zeros(photo.shape[:2], bool)
        for number in range(count):
            line = draw_line(self.fonts, random)
            masks = Masks(line)
            place = _place(taken, masks.letters.shape, random)
            if place is None:
                continue
            left, top = place
            height, width = masks.letters.shape
            taken[top : top + height, left : left + width] = True
            write(picture, masks, line, left, top, random)
            boxes[number] = torch.tensor(
                [left + width / 2, top + height / 2, masks.width, masks.height, line.angle]
            )
            codes = self.alphabet.encode(line.text)
            texts[number, : len(codes)] = torch.tensor(codes)
        written = np.rint(picture * 255).astype(np.uint8)
        return Sample(written, {"boxes": boxes, "texts": texts})


def _place(
    taken: NDArray[np.bool_], shape: tuple[int, ...], random: np.random.Generator
) -> tuple[int, int] | None:
    """Left and top of a free rectangle of ``shape``, or None if none was found."""
    last = [whole - part for whole, part in zip(taken.shape, shape, strict=True)]
    if min(last) < 0:
        return None
    for _ in range(TRIES):
        top, left = (int(random.integers(0, room, endpoint=True)) for room in last)
        if not taken[top : top + shape[0], left : left + shape[1]].any():
            return left, top
    return None
