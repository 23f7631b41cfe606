"""Measures of every reconstruction, independent of tasks: fidelity and perceptual distances."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mpa_core.errors import ConfigError
from mpa_core.evaluation.results import MetricInfo, rounded
from mpa_core.io.distortion import ms_ssim, psnr
from mpa_core.io.pixels import to_tensor
from mpa_core.requirements import missing
from mpa_core.tasks.metric import MAX_PSNR, PSNR, psnr_metric
from mpa_core.tasks.perceptual import DISTANCES, build_distance

Compare = Callable[[Image.Image, Image.Image], float | None]


@dataclass(frozen=True)
class Measure:
    """A measure of one reconstruction; its value is None for a picture that is too small."""

    info: MetricInfo
    compare: Compare
    """Function of (original, reconstruction), both 8-bit RGB."""

    def __call__(self, original: Image.Image, decoded: Image.Image) -> float | None:
        """Return the value for two 8-bit RGB pictures of one size, or None."""
        value = self.compare(original, decoded)
        return None if value is None else rounded(value)


def build_measures(perceptual: Sequence[str], device: torch.device) -> list[Measure]:
    """Return PSNR, MS-SSIM, and the perceptual distances named.

    Args:
        perceptual: names in :data:`PERCEPTUAL`.
        device: device of their networks.

    Raises:
        ConfigError: a name is unknown.
        MissingDependencyError: a library or weights are missing.
    """
    found = [
        Measure(MetricInfo.of(PSNR, psnr_metric()), lambda a, b: min(psnr(a, b), MAX_PSNR)),
        Measure(MetricInfo("ms_ssim", "MS-SSIM", True), ms_ssim),
    ]
    for name in perceptual:
        if name in DISTANCES:
            found.append(_network(name, device))
        elif name in _PIQ:
            found.append(_piq(name))
        else:
            raise ConfigError(
                f"no perceptual distance is called {name!r}; expected one of "
                f"{', '.join(PERCEPTUAL)}"
            )
    return found


def _network(name: str, device: torch.device) -> Measure:
    distance = build_distance(name).to(device)

    @torch.inference_mode()
    def compare(original: Image.Image, decoded: Image.Image) -> float:
        return float(distance(*(as_batch(image).to(device) for image in (original, decoded))))

    return Measure(MetricInfo(name, f"feature distance ({name})", False), compare)


_PIQ = {
    "haarpsi": ("HaarPSI", True, 48),
    "gmsd": ("GMSD", False, 16),
    "fsim": ("FSIM", True, 16),
    "vif": ("VIF", True, 41),
}
"""By name: label, whether higher is better, smallest side in pixels."""

PERCEPTUAL = (*DISTANCES, *_PIQ)
"""Names that :func:`build_measures` accepts."""


def _piq(name: str) -> Measure:
    label, higher, smallest = _PIQ[name]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import piq
    except ImportError as error:
        raise missing(f"{label} needs", "piq", "eval", error) from error
    function = {"haarpsi": piq.haarpsi, "gmsd": piq.gmsd, "fsim": piq.fsim, "vif": piq.vif_p}[name]

    @torch.inference_mode()
    def compare(original: Image.Image, decoded: Image.Image) -> float | None:
        if min(original.size) < smallest:
            return None
        with warnings.catch_warnings():
            # piq still calls a function of torch by a deprecated signature.
            warnings.simplefilter("ignore", UserWarning)
            return float(function(as_batch(decoded), as_batch(original), data_range=1.0))

    return Measure(MetricInfo(name, label, higher), compare)


def as_batch(image: Image.Image) -> Tensor:
    """Convert 8-bit RGB to [1, 3, H, W] float32 in [0, 1]."""
    return to_tensor(np.array(image))[None]
