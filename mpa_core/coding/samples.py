"""The picture on a card: a photo beside what main and one path make of the same file."""

from __future__ import annotations

from importlib import resources

import torch
from PIL import Image

from mpa_core.bitstream.parsed import parse_file
from mpa_core.coding.encoding import PictureEncoder
from mpa_core.coding.picture import CodedPicture, Decoder
from mpa_core.io.images import ImageLike, load_image, to_rgb_tensor
from mpa_core.io.output import encode_image, to_pil
from mpa_core.runtime.surroundings import usual_defaults

PHOTO = "chelsea.png"
"""The bundled photo: the cat Chelsea by Stéfan van der Walt, CC0."""
_WIDTH, _HEIGHT = 320, 240
_GAP = 6


@usual_defaults()
@torch.inference_mode()
def sample_picture(
    codec: Decoder, image: ImageLike | None, path: str | None, quality: float
) -> tuple[bytes, str]:
    """Make a PNG of original, main path and ``path`` side by side, and a line about it.

    Args:
        codec: has ``path`` loaded, if one is named.
        image: a photo, of which the middle is shown; None takes the bundled one.
        path: a path beside main, or None.
        quality: of the file.

    Raises:
        ImageError, QualityError, ModelChangedError: as :meth:`mpa_core.MPACodec.encode`.
    """
    if image is None:
        with resources.as_file(resources.files("mpa_core") / "assets" / PHOTO) as file:
            image = load_image(file)
    photo = to_pil(to_rgb_tensor(image).tensor)
    left, top = max(0, photo.width - _WIDTH) // 2, max(0, photo.height - _HEIGHT) // 2
    photo = photo.crop(
        (left, top, min(photo.width, left + _WIDTH), min(photo.height, top + _HEIGHT))
    )
    encoder = PictureEncoder(
        codec.model,
        codec.profiles,
        quality,
        profile="float" if codec.profiles.formats is None else "exact",
        reproducible=False,
        icc_profile=b"",
        exif=b"",
        orient=True,
    )
    (data,) = encoder.encode([encoder.prepare(photo)])
    coded = CodedPicture(parse_file(data), codec)
    shown = [photo, coded.render(), *([coded.render(path)] if path else [])]
    width = len(shown) * (photo.width + _GAP) - _GAP
    sheet = Image.new("RGB", (width, photo.height), "white")
    for number, picture in enumerate(shown):
        sheet.paste(picture, (number * (photo.width + _GAP), 0))
    bpp = 8 * len(data) / (photo.width * photo.height)
    names = ", ".join(["original", "main path", *([f"{path} path"] if path else [])])
    return encode_image(sheet, ".png"), (
        f"From left: {names}; one file of {len(data)} bytes ({bpp:.2f} bpp), quality {quality:g}"
    )
