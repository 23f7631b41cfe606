"""Distortion between two pictures, and rate from real bytes.

All metrics compare 8-bit sRGB pictures, as a viewer gets them from the file, never the float
tensors before rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from mpa_core.errors import ImageError
from mpa_core.requirements import missing

MS_SSIM_MIN_SIDE = 161
"""Smallest side in pixels on which the five scales of MS-SSIM fit."""


def bits_per_pixel(num_bytes: int, size: tuple[int, int]) -> float:
    """Return the bits per pixel of a file of ``num_bytes`` bytes with a (width, height) picture."""
    width, height = size
    return 8 * num_bytes / (width * height)


def psnr(reference: Image.Image, decoded: Image.Image) -> float:
    """Return the PSNR in dB over the three 8-bit channels; ``inf`` for equal pictures.

    Raises:
        ImageError: the pictures differ in size.
    """
    first, second = _pair(reference, decoded)
    error = float(np.mean((first - second) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def ms_ssim(reference: Image.Image, decoded: Image.Image) -> float | None:
    """Return the multi-scale structural similarity, at most 1.

    None where a side is under 161 pixels.

    Raises:
        ImageError: the pictures differ in size.
        MissingDependencyError: ``pytorch-msssim`` is not installed.
    """
    first, second = _pair(reference, decoded)
    if min(first.shape[:2]) < MS_SSIM_MIN_SIDE:
        return None
    multi_scale = require_ms_ssim()
    pair = [torch.from_numpy(array).permute(2, 0, 1)[None] for array in (first, second)]
    return float(multi_scale(*pair, data_range=255.0))


def require_ms_ssim() -> Callable[..., torch.Tensor]:
    """Return the library's function of :func:`ms_ssim`.

    Raises:
        MissingDependencyError: ``pytorch-msssim`` is not installed.
    """
    try:
        from pytorch_msssim import ms_ssim as multi_scale
    except ImportError as error:
        raise missing("MS-SSIM needs", "pytorch-msssim", "demo", error) from error
    return multi_scale


def _pair(
    reference: Image.Image, decoded: Image.Image
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    if reference.size != decoded.size:
        raise ImageError(
            f"the pictures to compare are {_size(reference)} and {_size(decoded)}, expected equal "
            "sizes; compare a decoded picture with the one it was encoded from"
        )
    first, second = (
        np.asarray(image.convert("RGB"), dtype=np.float32) for image in (reference, decoded)
    )
    return first, second


def _size(image: Image.Image) -> str:
    return f"{image.width}x{image.height}"
