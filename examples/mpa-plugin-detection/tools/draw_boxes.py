"""Draw what the detector finds on a photo, and on what the paths make of one file of it.

    python tools/draw_boxes.py PHOTO OUT.png --quality 2

Side by side: the original, the main path, the `detection` path, and JPEG at the same bytes.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from mpa_plugin_detection.classes import CLASSES
from mpa_plugin_detection.detector import Detections, Detector
from PIL import Image, ImageDraw, ImageFont

from mpa_core import MPACodec
from mpa_core.tasks import load_image, to_tensor

CAPTION = 24
"""Height in pixels of the line above each picture."""


def jpeg_of(image: Image.Image, size: int) -> Image.Image:
    """``image`` through the best JPEG of at most ``size`` bytes, or the smallest that there is."""
    for quality in range(95, 0, -1):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= size:
            break
    return Image.open(buffer).convert("RGB")


def drawn(image: Image.Image, found: Detections, caption: str) -> Image.Image:
    """``image`` with boxes, classes and scores on it, below a line of text."""
    sheet = Image.new("RGB", (image.width, image.height + CAPTION), "white")
    sheet.paste(image, (0, CAPTION))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(15)
    draw.text((4, 2), caption, "black", font)
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    for (left, top, right, bottom), score, label in reversed([*rows]):  # the surest on top
        draw.rectangle((left, top + CAPTION, right, bottom + CAPTION), outline="red", width=2)
        text = f"{CLASSES[label]} {score:.2f}"
        place = (left + 4, min(top + CAPTION + 3, sheet.height - 20))
        draw.rectangle(draw.textbbox(place, text, font), "red")
        draw.text(place, text, "white", font)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("out", type=Path, help="picture to write")
    parser.add_argument("--base", default="mpa-small", help="default: %(default)s")
    parser.add_argument("--path", default="detection", help="name or folder; default: %(default)s")
    parser.add_argument("--quality", type=float, default=2.0, help="default: %(default)s")
    parser.add_argument("--threshold", type=float, default=0.3, help="least score of a box")
    args = parser.parse_args()
    image = load_image(args.photo).convert("RGB")
    codec = MPACodec.from_pretrained(args.base)
    name = codec.load_path(args.path)
    data = codec.encode(image, quality=args.quality)
    size = f"{len(data):,} bytes"
    jpeg = jpeg_of(image, len(data))
    shown = {
        "original": image,
        f"main, {size}": codec.decode(data),
        f"{name}, the same file": codec.decode(data, name),
        "JPEG, as many bytes": jpeg,
    }
    detector = Detector()
    parts = []
    for caption, picture in shown.items():
        found = detector.detect(to_tensor(np.array(picture)[None]))[0]
        parts.append(drawn(picture, found.above(args.threshold), caption))
    sheet = Image.new("RGB", (2 * parts[0].width, 2 * parts[0].height))
    for index, part in enumerate(parts):
        sheet.paste(part, (index % 2 * part.width, index // 2 * part.height))
    sheet.save(args.out)


if __name__ == "__main__":
    main()
