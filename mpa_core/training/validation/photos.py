"""Validation of a base: bits and distortion at every quality level, on a few whole photos."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mpa_core.base.padding import pad, unpad
from mpa_core.coding.model import MPAModel
from mpa_core.errors import ImageError, TrainingError
from mpa_core.io.images import save_image, to_pil
from mpa_core.io.pixels import to_tensor
from mpa_core.tasks.metric import squared_error_255
from mpa_core.tasks.photos import find_photos, read_photo
from mpa_core.training.engine.checkpoint import checkpoint_name
from mpa_core.training.engine.loop import SAMPLES
from mpa_core.training.objectives.losses import bits_per_pixel, psnr_from_mse

logger = logging.getLogger(__name__)


def load_validation_photos(folder: Path, count: int, side: int) -> list[NDArray[np.uint8]]:
    """Read ``count`` photos spread over the sorted ``folder``, cut to their middle ``side`` pixels.

    Unreadable ones are skipped with a warning.

    Raises:
        TrainingError: none can be read.
    """
    paths = find_photos(folder).paths()
    chosen = [
        paths[i * len(paths) // min(count, len(paths))] for i in range(min(count, len(paths)))
    ]
    photos = []
    for path in chosen:
        try:
            pixels = read_photo(path)
        except ImageError as error:
            logger.warning("left out of the validation: %s", error)
            continue
        top, left = (max(0, (size - side) // 2) for size in pixels.shape[:2])
        photos.append(np.ascontiguousarray(pixels[top : top + side, left : left + side]))
    if not photos:
        raise TrainingError(f"{folder}: none of the {len(chosen)} photos chosen can be read")
    return photos


class PhotoValidator:
    """Measures, at a given step, bits and PSNR of the averaged weights at each quality level.

    Args:
        averaged: returns a copy of the model with the averaged weights, in eval mode.
        photos: photos from :func:`load_validation_photos`.
        folder: folder of the run, below which the first photo's reconstructions are written; None
            writes none.
    """

    def __init__(
        self,
        averaged: Callable[[], MPAModel],
        photos: Sequence[NDArray[np.uint8]],
        folder: Path | None,
    ) -> None:
        self.averaged = averaged
        self.photos = photos
        self.folder = folder

    def __call__(self, step: int) -> list[dict[str, float]]:
        """Return per level: ``quality``, ``bpp``, ``psnr``."""
        samples = None if self.folder is None else self.folder / SAMPLES / checkpoint_name(step)
        return validate(self.averaged(), self.photos, samples=samples)


@torch.inference_mode()
def validate(
    model: MPAModel, photos: Sequence[NDArray[np.uint8]], *, samples: Path | None = None
) -> list[dict[str, float]]:
    """Return the mean estimated bpp and the mean PSNR for each quality level.

    Bits are estimated from the likelihoods, per pixel of the photo before padding.

    Args:
        model: in eval mode.
        photos: RGB [H, W, 3] uint8 each.
        samples: folder for the first photo's reconstructions; None writes none.

    Returns:
        Per level: ``quality``, ``bpp`` and ``psnr`` in dB (of 8-bit-range values).
    """
    device = next(model.parameters()).device
    rows: list[dict[str, float]] = []
    for quality in range(1, model.config.quality_levels + 1):
        bits, psnr = [], []
        for index, photo in enumerate(photos):
            x = to_tensor(photo)[None].to(device)
            height, width = x.shape[-2:]
            out = model(pad(x, model.config.hyper_stride), float(quality))
            x_hat = unpad(out["x_hat"], height, width)
            bits.append(float(bits_per_pixel(out["likelihoods"], height * width)))
            psnr.append(psnr_from_mse(float(squared_error_255(x, x_hat))))
            if samples is not None and index == 0:
                samples.mkdir(parents=True, exist_ok=True)
                save_image(samples / f"q{quality}.png", to_pil(x_hat))
        rows.append(
            {
                "quality": quality,
                "bpp": round(float(np.mean(bits)), 5),
                "psnr": round(float(np.mean(psnr)), 4),
            }
        )
    return rows
