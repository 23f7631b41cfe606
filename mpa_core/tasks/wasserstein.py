"""Wasserstein distortion: how far apart the local distributions of two pictures' features are.

After Qiu, Wagner, Ballé and Theis (2024), arXiv 2310.03629: in a window around each position every
channel's values are taken for a Gaussian, and two Gaussians are (mean - mean')^2 +
(deviation - deviation')^2 apart. A reconstruction that is the mean of what a picture could have
been is near it feature by feature and has too little contrast in all of them; this sees the
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
"""Of a channel's variance over the picture and of one over a window, relative to the mean square of
the whole layer: what is constant is no reason to divide, or to take a root's slope, near zero."""


def wasserstein_distortion(
    wanted: Sequence[Tensor], found: Sequence[Tensor], height: int
) -> Tensor:
    """Mean over layers, channels and windows of the squared 2-Wasserstein distance, [B] >= 0.

    Each channel's is relative to its variance over the original, so that all of them count alike.

    Args:
        wanted, found: feature maps [B, C_i, H_i, W_i] of the originals and the reconstructions.
        height: of the pictures in pixels; with ``H_i`` it tells a layer's stride.
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
    """Mean and standard deviation in windows: [B, C, H, W] -> [B, C, h, w] twice."""
    stride = max(side // 2, 1)
    mean = F.avg_pool2d(x, side, stride)
    variance = F.avg_pool2d(x.square(), side, stride) - mean.square()
    return mean, (variance.clamp_min(0) + floor + 1e-12).sqrt()
