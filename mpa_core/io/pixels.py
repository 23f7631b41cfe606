"""Conversion of 8-bit pixels to numbers in [0, 1] and back, and a digest of a picture's pixels."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

WHITE = 255.0
"""The highest of the 256 levels of a channel, which is 1 as a number."""


def to_unit(levels: Tensor) -> Tensor:
    """Divide levels, uint8 of any shape, by 255: new float32 in [0, 1], in the same layout."""
    return levels.to(torch.float32, copy=True).div_(WHITE)


def to_levels(x: Tensor) -> Tensor:
    """Round numbers of any shape to the nearest of 256 levels, uint8, clamped to [0, 1] before."""
    return x.detach().float().clamp(0.0, 1.0).mul_(WHITE).round_().to(torch.uint8)


def to_planes(pixels: NDArray[np.uint8]) -> Tensor:
    """Return ``pixels`` [..., H, W, C] as a tensor [..., C, H, W] of the same memory.

    A channels-last tensor and such an array are the same bytes.
    """
    return torch.from_numpy(pixels).movedim(-1, -3)


def to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """Convert uint8 [..., H, W, C] to float32 [..., C, H, W] in [0, 1], channels last in memory."""
    return to_unit(to_planes(pixels))


def to_pixels(x: Tensor) -> NDArray[np.uint8]:
    """Convert numbers [..., C, H, W] to uint8 [..., H, W, C], rounded by :func:`to_levels`."""
    return np.ascontiguousarray(to_levels(x).movedim(-3, -1).cpu().numpy())


def picture_digest(pixels: NDArray[Any]) -> str:
    """Return the SHA-256, 64 hex digits, of the shape and the bytes of ``pixels``, row by row."""
    shape = repr(tuple(int(size) for size in pixels.shape)).encode()
    return hashlib.sha256(shape + np.ascontiguousarray(pixels).tobytes()).hexdigest()
