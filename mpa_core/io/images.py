"""Conversion of files, PIL images, arrays and tensors to RGB in [0, 1].

The codec sees three channels of 8-bit colour, upright. Any other picture is converted by one of the
rules below, carried with a profile that says what its numbers mean, or refused with an
:class:`ImageError`; a statement of the file about its colours that cannot be followed is a
:class:`PictureWarning`. Nothing is guessed.

=============================  ====================================================================
gray, 1-bit                    replicated to R = G = B
palette                        looked up, with its transparency
alpha, transparent colour      composited over ``background`` (white by default)
16-bit (gray, or RGB(A) PNG    the high byte of each channel, ``value >> 8``: exact for pictures
and TIFF)                      widened from 8 bits, and what Pillow does for 16-bit colour itself;
                               12-bit gray likewise the highest 8 of its 12 bits. 0 is turned to
                               white where TIFF says so. Signed samples are refused
YCbCr, HSV                     Pillow's exact conversion to RGB
gray with a gray ICC profile,  converted to sRGB
CMYK, LAB with their profile
CMYK, LAB without one          refused
RGB ICC profile                carried, as is one that is made where PNG (cICP, cHRM), AVIF (nclx)
                               or TIFF name other primaries than sRGB's
gAMA, a transfer function      converted to sRGB, if the primaries are sRGB's
PQ, HLG (HDR)                  refused: they need tone mapping
damaged profile, or one for    a warning; the picture is taken as sRGB
another kind of picture
32-bit integer or float (I,    refused: nothing says which value is white
F)
several frames                 refused for a file unless ``frame`` is given; a PIL image stands for
                               the frame it is positioned at. The extra views of a camera's MPO
                               file are previews: its first picture is taken
EXIF orientation               the picture is turned upright, and its EXIF says so; ``orient=False``
                               leaves both. (Pillow itself turns TIFF and drops the tag)
=============================  ====================================================================

The data that :mod:`mpa_core.io.header` reads from a file are lost once Pillow has loaded it. So an
image for :func:`to_rgb_tensor` should come from :func:`load_image`, or not be loaded yet.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, BinaryIO, Union

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mpa_core.arguments import as_path
from mpa_core.errors import ImageError, PictureWarning
from mpa_core.io.colour import Colour, apply_table, colour_of, convert_to_srgb
from mpa_core.io.header import Header, keep_header, read_header
from mpa_core.io.metadata import read_exif, strip_exif_prefix
from mpa_core.io.orientation import orientation_of, stated_orientation, upright, upright_exif
from mpa_core.io.output import (
    OUTPUT_FORMATS,
    encode_image,
    output_format,
    save_image,
    to_pil,
)
from mpa_core.io.pillow_errors import pillow_errors
from mpa_core.io.pixels import to_planes, to_unit
from mpa_core.runtime.caller import warn_caller

__all__ = [
    "OUTPUT_FORMATS",
    "WHITE",
    "Color",
    "ImageInput",
    "ImageLike",
    "encode_image",
    "load_image",
    "output_format",
    "save_image",
    "to_pil",
    "to_rgb_tensor",
]

ImageLike = Union[Image.Image, "np.ndarray[Any, Any]", Tensor]
"""Types of pictures that :func:`to_rgb_tensor` takes."""

Color = tuple[int, int, int]
"""An RGB colour, 0 to 255 each."""

WHITE: Color = (255, 255, 255)

_16_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
# Pillow opens 16-bit gray of these formats, which know no wider one, as 32-bit "I".
_16_BIT_AS_I = ("PNG", "PPM")
# Drawings, not pictures; Pillow would start Ghostscript for the first.
_VECTOR_FORMATS = ("EPS", "WMF")


@dataclass(frozen=True)
class ImageInput:
    """A picture ready for the codec."""

    tensor: Tensor
    """Float32 [1, 3, H, W] in [0, 1]."""
    icc_profile: bytes | None = None
    """ICC profile of the RGB colours; None for sRGB."""
    exif: bytes | None = None
    """EXIF block, beginning with its TIFF header (no ``Exif`` prefix)."""


def load_image(
    source: str | os.PathLike[str] | BinaryIO, *, frame: int | None = None
) -> Image.Image:
    """Read a picture file completely, so that damage shows here and the file is closed after.

    Args:
        source: a path, or a binary stream.
        frame: number of a frame, from 0, of an animation or multi-page file; needed only for these.

    Returns:
        A loaded PIL image, as stored, with its ICC profile, its EXIF (if any) and the other facts
            of its file's header in ``info``. Pillow's own settings hold:
            ``PIL.Image.MAX_IMAGE_PIXELS``, and ``PIL.ImageFile.LOAD_TRUNCATED_IMAGES`` for files
            that end too early.

    Raises:
        ImageError: the file is missing, a folder, not a picture, truncated or damaged, has more
            pixels than ``PIL.Image.MAX_IMAGE_PIXELS``, or has several frames and ``frame`` is not
            given.
    """
    name = _source_name(source)
    if (
        isinstance(source, (str, os.PathLike))
        and as_path(source, "the picture", ImageError, home=False).is_dir()
    ):
        raise ImageError(f"{name} is a folder, expected a picture; name the files in it")
    with pillow_errors(name), Image.open(source) as image:
        if image.format in _VECTOR_FORMATS:
            raise ImageError(
                f"{name} is a vector drawing ({image.format}), expected pixels; "
                "render it to PNG first"
            )
        frames = int(getattr(image, "n_frames", 1))
        if frame is not None:
            if not 0 <= frame < frames:
                raise ImageError(f"{name} has no frame {frame}; it has {frames}, counted from 0")
            image.seek(frame)
        elif frames > 1 and image.format != "MPO":
            raise ImageError(
                f"{name} has {frames} frames, expected one picture; "
                "choose one with --frame 0 (frame=0 in Python)"
            )
        # Pillow warns of this and goes on; it refuses only pictures twice as large.
        if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError
        header = read_header(image)
        image.load()
        exif = read_exif(image)
        loaded: Image.Image = image.copy()
        # A copy has no format, and 16-bit gray is told from 32-bit integers by it.
        loaded.format = image.format
    keep_header(loaded, header)
    if exif is not None:
        loaded.info["exif"] = exif
    return loaded


def to_rgb_tensor(
    image: ImageLike,
    *,
    background: Color = WHITE,
    exif: bytes | None = None,
    orient: bool = True,
) -> ImageInput:
    """Convert any picture to the codec's input by the rules at the top of this module.

    Args:
        image: a PIL image; a uint8 array [H, W] or [H, W, C] with C = 1 (gray), 3 (RGB) or 4
            (RGBA); or a tensor [C, H, W] or [1, C, H, W] with C = 1 or 3, either float in [0, 1] or
            uint8 in [0, 255] (which is divided by 255).
        background: colour that shows where the picture is transparent, RGB 0 to 255.
        exif: EXIF block for the picture, also for arrays and tensors, in place of a PIL image's
            own; ``b""`` is none.
        orient: turn the picture upright by the orientation that ``exif`` states, or else the
            image's own, and make the EXIF say so; False leaves pixels and EXIF as they are.

    Returns:
        Float32 [1, 3, H, W] in [0, 1] (on a tensor's own device, without gradient), its ICC profile
        and its EXIF.

    Raises:
        ImageError: another type, shape, or value range, or a picture that is refused.

    Warns:
        PictureWarning: a statement of the file about its colours cannot be followed.
    """
    own: bytes | None = None
    icc: bytes | None = None
    if isinstance(image, Image.Image):
        header = read_header(image)
        if header.refusal is not None:
            raise ImageError(header.refusal)
        with pillow_errors("the image"):
            image.load()
            own = read_exif(image)
            colour = colour_of(image.mode, header)
            tensor = _from_bytes(np.asarray(_to_rgb(image, background, header, colour)))
        icc = colour.carried
        if colour.ignored:
            warn_caller(
                PictureWarning(
                    f"the picture has {', '.join(colour.ignored)}: not followed, its colours are "
                    "taken as they are; convert it to sRGB first if they come out wrong"
                )
            )
    elif isinstance(image, np.ndarray):
        tensor = _from_bytes(_array_to_rgb(image, background))
    elif isinstance(image, Tensor):
        tensor = _check_tensor(image)
    else:
        raise ImageError(
            f"got a {type(image).__name__}, expected a PIL image, a uint8 array [H, W, 3] or a "
            "float tensor [3, H, W]; read a file with mpa_core.io.images.load_image(path)"
        )
    said = own if exif is None else strip_exif_prefix(exif)
    if orient:
        tensor = upright(tensor, stated_orientation(said) or orientation_of(own))
        said = upright_exif(said) if said else said
    return ImageInput(tensor, icc, said or None)


def _source_name(source: object) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source) if isinstance(source, str) else str(source)
    return "the input stream"


def _to_rgb(
    image: Image.Image,
    background: Color,
    header: Header | None = None,
    colour: Colour | None = None,
) -> Image.Image:
    """Convert a loaded image of any accepted mode to RGB."""
    header, colour = header or Header(), colour or Colour()
    mode, table = image.mode, colour.table
    if colour.source is not None:
        image = convert_to_srgb(image, colour.source)
    elif mode in _16_BIT_MODES or (mode == "I" and image.format in _16_BIT_AS_I):
        image, table = _narrow(image, header, colour), None
    elif mode in ("RGBX", "YCbCr", "HSV"):
        image = image.convert("RGB")
    elif mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa"):
        raise ImageError(
            f"the image has mode {mode!r} (32-bit numbers without a known white), expected 8 or 16 "
            "bits per channel; scale it to 0..255 yourself and convert it to uint8"
        )
    if mode == "La":
        image = image.convert("LA")
    key = image.info.get("transparency") if image.mode == "RGB" else None
    if isinstance(key, tuple) and max(key) > 255:
        raise ImageError(
            f"the image is 16-bit RGB with the transparent colour {key}, which Pillow cannot "
            "apply; store its transparency as an alpha channel"
        )
    clear = image.mode == "P" or image.has_transparency_data
    front = image.convert("RGBA" if clear else "RGB")
    if table is not None:
        front = apply_table(front, table)
    if not clear:
        return front
    behind = Image.new("RGBA", front.size, (*background, 255))
    return Image.alpha_composite(behind, front).convert("RGB")


def _narrow(image: Image.Image, header: Header, colour: Colour) -> Image.Image:
    """Convert 16-bit gray to 8-bit gray, with a transparent value turned into alpha.

    The table, interpolated between its levels, gives the result; without one, the high byte of the
    significant bits does.
    """
    values = np.asarray(image).astype(np.uint16)
    white = 2**header.bits - 1
    levels = white - values if header.inverted else values
    if colour.table is None:
        narrow = levels >> (header.bits - 8)
    else:
        narrow = np.interp(levels * (255 / white), np.arange(256), colour.table).round()
    gray = Image.fromarray(narrow.astype(np.uint8))
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return gray
    alpha = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
    return Image.merge("LA", (gray, alpha))


def _array_to_rgb(array: np.ndarray[Any, Any], background: Color) -> np.ndarray[Any, Any]:
    """Check a uint8 array and return it as [H, W, 3]."""
    if array.dtype != np.uint8:
        fix = {
            "uint16": "(a >> 8).astype(numpy.uint8)",
            "bool": "a.astype(numpy.uint8) * 255",
        }.get(array.dtype.name, "torch.from_numpy(a).permute(2, 0, 1) for floats in [0, 1]")
        raise ImageError(f"got an array of {array.dtype}, expected uint8 in 0..255; use {fix}")
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in array.shape:
        raise ImageError(
            f"got an array of shape {list(array.shape)}, expected [H, W, 3] "
            "(or [H, W], [H, W, 1], [H, W, 4]) with H and W at least 1"
        )
    if channels == 4:
        return np.asarray(_to_rgb(Image.fromarray(array), background))
    gray_or_rgb = array.reshape(array.shape[0], array.shape[1], channels)
    return np.broadcast_to(gray_or_rgb, (*gray_or_rgb.shape[:2], 3))


def _from_bytes(rgb: np.ndarray[Any, Any]) -> Tensor:
    """Convert uint8 [H, W, 3] to float [1, 3, H, W] in [0, 1]."""
    return to_unit(to_planes(np.array(rgb, order="C")).unsqueeze(0).contiguous())


def _check_tensor(tensor: Tensor) -> Tensor:
    """Check a tensor and return it as float [1, 3, H, W]."""
    shape = list(tensor.shape)
    if tensor.ndim == 4 and shape[0] != 1:
        raise ImageError(
            f"got a batch of {shape[0]} pictures (shape {shape}), expected one; "
            "encode them one by one: [codec.encode(x) for x in batch]"
        )
    if tensor.ndim not in (3, 4) or shape[-3] not in (1, 3) or 0 in shape:
        raise ImageError(
            f"got a tensor of shape {shape}, expected [3, H, W] or [1, 3, H, W] (gray: 1 channel) "
            "with H and W at least 1; turn [H, W, 3] with x.permute(2, 0, 1)"
        )
    if tensor.is_meta:
        raise ImageError("got a tensor on the meta device, which holds no values; give a picture")
    x = tensor.detach()
    if x.dtype == torch.uint8:
        x = to_unit(x)
    elif not x.is_floating_point():
        raise ImageError(
            f"got a tensor of {x.dtype}, expected floats in [0, 1] or uint8 in 0..255; "
            "convert it with x.to(torch.uint8) or x.float() / white"
        )
    x = x.float().reshape(1, *shape[-3:])
    low, high = float(x.min()), float(x.max())
    # NaN fails both comparisons.
    if not (low >= 0.0 and high <= 1.0):
        raise ImageError(
            f"got a tensor with values from {low:g} to {high:g}, expected [0, 1] and no NaN; "
            "divide by 255 if they are bytes, or clip them with x.clamp(0, 1)"
        )
    return x.expand(1, 3, -1, -1).contiguous()
