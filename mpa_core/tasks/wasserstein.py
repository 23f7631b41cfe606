"""Wasserstein distortion: the distance between local distributions of two pictures' features.

After Qiu, Wagner, Ballé and Theis (2024), arXiv 2310.03629: in a window around each position every
channel's values are treated as a Gaussian, and the distance of two Gaussians is (mean - mean')^2 +
(deviation - deviation')^2. A blurred reconstruction, the mean of all possible pictures, is close to
the original feature by feature and has too little contrast in all of them; this distortion sees the
difference, without a discriminator to be trained.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW = 48
"""Side of a window in pixels of the picture; windows overlap by half."""
_CHANNEL_FLOOR = 1e-2
_VARIANCE_FLOOR = 1e-3
"""Added to a channel's variance in a window; ``_CHANNEL_FLOOR`` is added to its variance over the
picture. Both are relative to the mean square of the whole layer, and keep constant channels from a
division by, or the slope of a root, near zero."""


def wasserstein_distortion(
    wanted: Sequence[Tensor], found: Sequence[Tensor], height: int
) -> Tensor:
    """Return the mean over layers, channels and windows of the squared 2-Wasserstein distance.

    The distance of each channel is relative to its variance over the original, so that all channels
    count alike.

    Args:
        wanted, found: feature maps [B, C_i, H_i, W_i] of the originals and the reconstructions.
        height: height of the pictures in pixels; with ``H_i`` it gives a layer's stride.

    Returns:
        [B], 0 or more.
    """
    layers = []
    for a, b in zip(wanted, found, strict=True):
        power = a.square().mean((1, 2, 3), keepdim=True)
        floor = _VARIANCE_FLOOR * power
        side = min(max(round(WINDOW * a.shape[2] / height), 2), *a.shape[2:])
        mean_a, deviation_a = _moments(a, side, floor)
        mean_b, deviation_b = _moments(b, side, floor)
        apart = (mean_a - mean_b).square() + (deviation_a - deviation_b).square()
        spread = a.var((2, 3), correction=0, keepdim=True) + _CHANNEL_FLOOR * power
        # A layer that is 0 all over has neither power nor spread.
        layers.append((apart / spread.clamp_min(1e-12)).flatten(1).mean(1))
    return torch.stack(layers).mean(0)


def _moments(x: Tensor, side: int, floor: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation in windows: [B, C, H, W] -> [B, C, h, w] twice."""
    stride = max(side // 2, 1)
    mean = F.avg_pool2d(x, side, stride)
    variance = F.avg_pool2d(x.square(), side, stride) - mean.square()
    return mean, (variance.clamp_min(0) + floor + 1e-12).sqrt()
