"""Padding of pictures to multiples of a base's stride, and its removal."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def padded_size(height: int, width: int, stride: int) -> tuple[int, int]:
    """Return height and width of the padded picture: the next multiples of ``stride``."""
    return -(-height // stride) * stride, -(-width // stride) * stride


def pad(x: Tensor, stride: int) -> Tensor:
    """Pad ``[B, 3, H, W]`` at the bottom and the right, so that ``stride`` divides both sides.

    The last row and column are repeated, which costs the fewest bits and is never visible.
    """
    height, width = x.shape[-2:]
    padded_height, padded_width = padded_size(height, width, stride)
    return F.pad(x, (0, padded_width - width, 0, padded_height - height), mode="replicate")


def unpad(x_hat: Tensor, height: int, width: int) -> Tensor:
    """Cut ``[..., H, W]``, as synthesised, to ``height`` and ``width``, and clamp it to [0, 1]."""
    return x_hat[..., :height, :width].clamp(0, 1)
