"""How close a decoded picture is to its original, in dB, for targets of fidelity."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from PIL import Image

from mpa_core.coding.targets.target import Target
from mpa_core.errors import ImageError
from mpa_core.io.distortion import MS_SSIM_MIN_SIDE, ms_ssim, psnr, require_ms_ssim

Fidelity = Literal["psnr", "ms_ssim"]
"""A measure of a decoded picture that can be a target."""

_EQUAL_DB = 120.0
"""dB that stand for equal pictures."""

MEASURES: dict[str, Callable[[Image.Image, Image.Image], float | None]] = {
    "psnr": lambda original, decoded: min(psnr(original, decoded), _EQUAL_DB),
    "ms_ssim": ms_ssim,
}
"""By name, the measure of (original, decoded), both 8-bit RGB; None where a side is too small."""


def in_decibel(kind: Fidelity, value: float) -> float:
    """Return a measure in dB, in which it rises about evenly with the quality.

    PSNR is in dB; of MS-SSIM it is ``-10 log10(1 - value)``. Equal pictures have 120 dB.
    """
    if kind == "ms_ssim":
        value = -10 * math.log10(1 - value) if value < 1 else math.inf
    return min(value, _EQUAL_DB)


def from_decibel(kind: Fidelity, decibel: float) -> float:
    """Return the measure that :func:`in_decibel` turned to dB."""
    return 1 - 10 ** (-decibel / 10) if kind == "ms_ssim" else decibel


def require_library(target: Target) -> None:
    """Refuse a target whose measure needs a library that is not installed.

    Raises:
        MissingDependencyError: it is MS-SSIM, and ``pytorch-msssim`` is not installed.
    """
    if target.kind == "ms_ssim":
        require_ms_ssim()


def measure_against(original: Image.Image, kind: Fidelity) -> Callable[[Image.Image], float]:
    """Return a function that measures decoded pictures, 8-bit RGB as ``original``, in dB.

    Raises:
        ImageError: the picture is too small for MS-SSIM.
    """
    if min(original.size) < MS_SSIM_MIN_SIDE and kind == "ms_ssim":
        raise ImageError(
            f"the picture is {original.width}x{original.height}, expected sides of at least "
            f"{MS_SSIM_MIN_SIDE} pixels for MS-SSIM; give target_psnr or a quality instead"
        )

    def measure(decoded: Image.Image) -> float:
        value = MEASURES[kind](original, decoded)
        assert value is not None
        return in_decibel(kind, value)

    return measure
