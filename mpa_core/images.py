"""Pictures in and out: files, PIL images, arrays and tensors to RGB in [0, 1] and back.

The codec sees three channels of 8-bit colour. What is not that is converted by one of the rules
below or refused with an :class:`ImageError`; nothing is guessed.

=============================  ====================================================================
gray, 1-bit                    replicated to R = G = B
palette                        looked up, with its transparency
alpha, transparent colour      composited over ``background`` (white unless told otherwise)
16-bit (gray, or RGB(A) PNG    the high byte of each channel, ``value >> 8``: exact for pictures
and TIFF)                      widened from 8 bits, and what Pillow does for 16-bit colour itself
YCbCr, HSV                     Pillow's exact conversion to RGB
CMYK, LAB                      refused: they need a colour-managed conversion
32-bit integer or float (I,    refused: nothing says which value is white
F)
several frames                 refused for a file unless ``frame`` is given; a PIL image stands for
                               the frame it is positioned at. The extra views of a camera's MPO
                               file are previews: its first picture is taken
=============================  ====================================================================

EXIF and ICC profile are carried along as bytes. The pixels are never turned: they stay as stored
and the EXIF orientation stays with them, so that viewers show the decoded picture as they showed
the original. (Pillow itself turns TIFF pixels upright on loading and drops the tag.) An ICC profile
that does not describe RGB, as a gray scan may have, cannot apply to the result and is left out.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Union

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from mpa_core.arguments import as_metadata, as_path, as_text, expect
from mpa_core.errors import ImageError, MetadataWarning, OutputError
from mpa_core.files import write_bytes
from mpa_core.image_metadata import read_exif, rgb_profile, strip_exif_prefix
from mpa_core.quiet import no_warnings
from mpa_core.saving import to_bytes

ImageLike = Union[Image.Image, "np.ndarray[Any, Any]", Tensor]
"""What :func:`to_rgb_tensor` takes."""

Color = tuple[int, int, int]
"""An RGB colour, 0 to 255 each."""

WHITE: Color = (255, 255, 255)

OUTPUT_FORMATS: dict[str, str] = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""Pillow's format for each suffix :func:`save_image` knows."""

# PNG, WebP and TIFF are written without loss: a decoded picture shall not be degraded again
# unasked. JPEG cannot be, so it is written close to it.
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
    # Uncompressed, since Pillow's compressing writer fails on an EXIF directory.
    "TIFF": {},
}

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
    """RGB colour profile as stored in the file."""
    exif: bytes | None = None
    """EXIF block, beginning with its TIFF header (no ``Exif`` prefix)."""


def load_image(
    source: str | os.PathLike[str] | BinaryIO, *, frame: int | None = None
) -> Image.Image:
    """Read a picture file completely, so that damage shows here and the file is closed after.

    Args:
        source: a path, or a binary stream.
        frame: which frame of an animation or multi-page file, from 0; needed for those only.

    Returns:
        A loaded PIL image with its ICC profile and EXIF (if any) in ``info``. What Pillow is told
        to trust holds: ``PIL.Image.MAX_IMAGE_PIXELS``, and that a file which ends too early is to
        be read (``PIL.ImageFile.LOAD_TRUNCATED_IMAGES``).

    Raises:
        ImageError: it is missing, a folder, not a picture, truncated or damaged, has more pixels
            than ``PIL.Image.MAX_IMAGE_PIXELS``, or has several frames and ``frame`` is not given.
    """
    name = _source_name(source)
    if (
        isinstance(source, (str, os.PathLike))
        and as_path(source, "the picture", ImageError, home=False).is_dir()
    ):
        raise ImageError(f"{name} is a folder, expected a picture; name the files in it")
    with _pillow_errors(name), Image.open(source) as image:
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
        # Pillow warns of this and goes on; what is twice as large it refuses itself.
        if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError
        image.load()
        exif = read_exif(image)
        loaded: Image.Image = image.copy()
        # A copy has no format, and 16-bit gray is told from 32-bit integers by it.
        loaded.format = image.format
    if exif is not None:
        loaded.info["exif"] = exif
    return loaded


def to_rgb_tensor(image: ImageLike, *, background: Color = WHITE) -> ImageInput:
    """Turn any picture into the codec's input by the rules at the top of this module.

    Args:
        image: a PIL image; a uint8 array [H, W] or [H, W, C] with C = 1 (gray), 3 (RGB) or
            4 (RGBA); or a tensor [C, H, W] or [1, C, H, W] with C = 1 or 3, either float in
            [0, 1] or uint8 in [0, 255] (which is divided by 255).
        background: colour that shows where the picture is transparent, RGB 0 to 255.

    Returns:
        Float32 [1, 3, H, W] in [0, 1] (on a tensor's own device, without gradient), and the ICC
        profile and EXIF of a PIL image.

    Raises:
        ImageError: another type, shape, or value range, or a mode that is refused.
    """
    if isinstance(image, Image.Image):
        with _pillow_errors("the image"):
            image.load()
            icc = image.info.get("icc_profile")
            exif = read_exif(image)
            rgb = _to_rgb(image, background)
        return ImageInput(_from_bytes(np.asarray(rgb)), rgb_profile(icc), exif)
    if isinstance(image, np.ndarray):
        return ImageInput(_from_bytes(_array_to_rgb(image, background)))
    if isinstance(image, Tensor):
        return ImageInput(_check_tensor(image))
    raise ImageError(
        f"got a {type(image).__name__}, expected a PIL image, a uint8 array [H, W, 3] or a float "
        "tensor [3, H, W]; read a file with mpa_core.images.load_image(path)"
    )


def to_pil(tensor: Tensor) -> Image.Image:
    """Turn float [3, H, W] or [1, 3, H, W] into an 8-bit RGB image.

    Values are clamped to [0, 1] and rounded to the nearest of 256 levels.

    Raises:
        ImageError: any other shape.
    """
    expect(tensor, Tensor, "the picture", "a tensor [3, H, W]", ImageError)
    if tensor.is_meta or tensor.is_complex():
        raise ImageError("got a tensor without real numbers (meta or complex), expected a picture")
    if tensor.ndim == 4 and tensor.shape[0] == 1:
        tensor = tensor[0]
    if tensor.ndim != 3 or tensor.shape[0] != 3:
        raise ImageError(
            f"got a tensor of shape {list(tensor.shape)}, expected [3, H, W]; "
            "take one picture of a batch with x[i]"
        )
    levels = tensor.detach().float().clamp(0.0, 1.0).mul(255.0).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().cpu().numpy())


def save_image(
    path: str | os.PathLike[str],
    image: Image.Image,
    *,
    icc_profile: bytes | None = None,
    exif: bytes | None = None,
    overwrite: bool = True,
) -> None:
    """Write ``image`` atomically in the format of the suffix; see :func:`encode_image`.

    Raises:
        ImageError: a suffix not in :data:`OUTPUT_FORMATS`, or a picture the format cannot hold.
        OutputError: the file cannot be written, or exists and ``overwrite`` is false.
    """
    target = as_path(path, "the file to write", OutputError, home=False)
    data = encode_image(image, target.suffix, icc_profile=icc_profile, exif=exif)
    write_bytes(target, data, overwrite=overwrite)


def encode_image(
    image: Image.Image,
    suffix: str,
    *,
    icc_profile: bytes | None = None,
    exif: bytes | None = None,
) -> bytes:
    """Return ``image`` as the bytes of a file of the format of ``suffix`` (such as ``.png``).

    PNG, WebP and TIFF (uncompressed) are lossless, JPEG is quality 95 in 4:4:4. Without
    ``icc_profile`` or ``exif`` the image's own (``image.info``) are kept;
    pass ``b""`` to leave them out. Of metadata that the format cannot hold, what fits is written.

    Raises:
        ImageError: an unknown suffix, or a picture the format cannot hold.

    Warns:
        MetadataWarning: what of the metadata was left out.
    """
    kind = output_format(suffix)
    expect(image, Image.Image, "the picture", "a PIL image", ImageError)
    icc_profile = as_metadata(icc_profile, "icc_profile")
    exif = as_metadata(exif, "exif")
    profile = image.info.get("icc_profile") if icc_profile is None else icc_profile
    block = read_exif(image) if exif is None else strip_exif_prefix(exif)
    with _pillow_errors(f"the {kind} output", saving=True):
        data, lost = to_bytes(
            image, kind, icc_profile=profile, exif=block, options=_SAVE_OPTIONS[kind]
        )
    for text in lost:
        warnings.warn(MetadataWarning(text), stacklevel=2)
    return data


def output_format(suffix: str) -> str:
    """Pillow's name of the format for a file suffix.

    Raises:
        ImageError: the suffix is not in :data:`OUTPUT_FORMATS`.
    """
    try:
        return OUTPUT_FORMATS[as_text(suffix, "suffix", ImageError).lower()]
    except KeyError:
        raise ImageError(
            f"cannot write a picture with the suffix {suffix!r}; "
            f"use one of {', '.join(OUTPUT_FORMATS)}"
        ) from None


def _source_name(source: object) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source) if isinstance(source, str) else str(source)
    return "the input stream"


@contextmanager
def _pillow_errors(name: str, *, saving: bool = False) -> Iterator[None]:
    """Turn whatever Pillow raises into one :class:`ImageError` about ``name``.

    A damaged file makes Pillow's parsers raise nearly anything (``SyntaxError``, ``struct.error``,
    ``EOFError``, ...), hence the broad net. Its warnings about odd metadata are not the user's
    business.
    """
    try:
        with no_warnings():
            yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name} has more than the {Image.MAX_IMAGE_PIXELS} pixels that are taken for safe; "
            "raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        ) from error
    except FileNotFoundError as error:
        raise ImageError(f"{name} does not exist; check the name") from error
    except PermissionError as error:
        raise ImageError(f"{name} may not be read; check its permissions") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is not a picture in a known format; expected PNG, JPEG, WebP, TIFF or the "
            "like, whole from its first byte"
        ) from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if saving:
            raise ImageError(f"cannot make {name}: {reason}; try another format") from error
        raise ImageError(
            f"{name} is damaged or incomplete ({reason}); get a whole copy of it"
        ) from error


def _to_rgb(image: Image.Image, background: Color) -> Image.Image:
    """Convert a loaded image of any accepted mode to RGB."""
    mode = image.mode
    if mode in _16_BIT_MODES or (mode == "I" and image.format in _16_BIT_AS_I):
        image = _narrow(image)
    elif mode in ("RGBX", "YCbCr", "HSV"):
        return image.convert("RGB")
    elif mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa"):
        raise ImageError(_refusal(mode))
    if mode == "La":
        image = image.convert("LA")
    key = image.info.get("transparency") if image.mode == "RGB" else None
    if isinstance(key, tuple) and max(key) > 255:
        raise ImageError(
            f"the image is 16-bit RGB with the transparent colour {key}, which Pillow cannot "
            "apply; store its transparency as an alpha channel"
        )
    if image.mode == "P" or image.has_transparency_data:
        front = image.convert("RGBA")
        return Image.alpha_composite(
            Image.new("RGBA", front.size, (*background, 255)), front
        ).convert("RGB")
    return image.convert("RGB")


def _narrow(image: Image.Image) -> Image.Image:
    """16-bit gray to 8-bit gray by the high byte, with a transparent value turned into alpha."""
    values = np.asarray(image).astype(np.uint16)
    gray = Image.fromarray((values >> 8).astype(np.uint8))
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return gray
    alpha = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
    return Image.merge("LA", (gray, alpha))


def _refusal(mode: str) -> str:
    if mode in ("CMYK", "LAB"):
        return (
            f"the image is {mode}, expected RGB or gray; convert it with its colour profile first "
            "(PIL.ImageCms.profileToProfile, or any picture editor)"
        )
    return (
        f"the image has mode {mode!r} (32-bit numbers without a known white), expected 8 or 16 "
        "bits per channel; scale it to 0..255 yourself and convert it to uint8"
    )


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
    """uint8 [H, W, 3] to float [1, 3, H, W]."""
    tensor = torch.from_numpy(np.array(rgb, order="C"))
    return tensor.permute(2, 0, 1).unsqueeze(0).contiguous().float().div(255.0)


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
    if tensor.is_meta or tensor.is_complex():
        raise ImageError("got a tensor without real numbers (meta or complex), expected a picture")
    x = tensor.detach()
    if x.dtype == torch.uint8:
        x = x.float().div(255.0)
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
