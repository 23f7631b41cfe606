"""Conversion of tensors to PIL images, and of PIL images to files in the format of a suffix."""

from __future__ import annotations

import os
import warnings
from typing import Any

from PIL import Image
from torch import Tensor

from mpa_core.arguments import as_metadata, as_path, as_text, expect
from mpa_core.errors import ImageError, MetadataWarning, OutputError
from mpa_core.io.files import write_bytes
from mpa_core.io.metadata import read_exif, strip_exif_prefix
from mpa_core.io.pillow_errors import pillow_errors
from mpa_core.io.pixels import to_pixels
from mpa_core.io.saving import to_bytes

OUTPUT_FORMATS: dict[str, str] = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""Pillow's name of the format for each suffix that :func:`save_image` takes."""

# PNG, WebP and TIFF are lossless, since a decoded picture should not be degraded again unless
# asked for. JPEG has no lossless mode here, so it is written nearly without loss.
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
    # Uncompressed, since Pillow's compressing writer fails on an EXIF directory.
    "TIFF": {},
}


def to_pil(tensor: Tensor) -> Image.Image:
    """Convert float [3, H, W] or [1, 3, H, W] to an 8-bit RGB image.

    Values are clamped to [0, 1] and rounded to the nearest of 256 levels.

    Raises:
        ImageError: any other shape or type.
    """
    expect(tensor, Tensor, "the picture", "a tensor [3, H, W]", ImageError)
    if tensor.is_meta or tensor.is_complex():
        raise ImageError(
            f"got a tensor of {tensor.dtype} on {tensor.device}, expected real numbers in [0, 1]"
        )
    if tensor.ndim == 4 and tensor.shape[0] == 1:
        tensor = tensor[0]
    if tensor.ndim != 3 or tensor.shape[0] != 3:
        raise ImageError(
            f"got a tensor of shape {list(tensor.shape)}, expected [3, H, W]; "
            "take one picture of a batch with x[i]"
        )
    return Image.fromarray(to_pixels(tensor))


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
    """Return ``image`` as the bytes of a file in the format of ``suffix`` (such as ``.png``).

    PNG, WebP and TIFF (uncompressed) are lossless, JPEG is quality 95 in 4:4:4. Without
    ``icc_profile`` or ``exif`` the image's own (``image.info``) are kept; ``b""`` leaves them out.
    Of metadata that the format cannot hold, the largest part that fits is written.

    Raises:
        ImageError: an unknown suffix, or a picture the format cannot hold.

    Warns:
        MetadataWarning: a part of the metadata was left out; the text says which.
    """
    kind = output_format(suffix)
    expect(image, Image.Image, "the picture", "a PIL image", ImageError)
    icc_profile = as_metadata(icc_profile, "icc_profile")
    exif = as_metadata(exif, "exif")
    profile = image.info.get("icc_profile") if icc_profile is None else icc_profile
    block = read_exif(image) if exif is None else strip_exif_prefix(exif)
    with pillow_errors(f"the {kind} output", saving=True):
        data, lost = to_bytes(
            image, kind, icc_profile=profile, exif=block, options=_SAVE_OPTIONS[kind]
        )
    for text in lost:
        warnings.warn(MetadataWarning(text), stacklevel=2)
    return data


def output_format(suffix: str) -> str:
    """Return Pillow's name of the format for a file suffix.

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
