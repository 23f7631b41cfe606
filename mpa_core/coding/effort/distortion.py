"""What a search is for: how far the picture that a reader will see is from the original."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mpa_core.arguments import shown
from mpa_core.base.gains import Quality
from mpa_core.coding.effort.tiles import Tile
from mpa_core.coding.model import MPAModel
from mpa_core.errors import ImageError
from mpa_core.mix import Mix


class Reader(NamedTuple):
    """A way to decode the file, and how much it counts."""

    mix: Mix | None
    """The paths that reconstruct, without regions; None is the main path."""
    weight: float
    """Above 0, relative to the other readers."""


MAIN_READER = Reader(None, 1.0)
"""The main path alone."""


class Distortion:
    """The weighted squared error of the readers' pictures.

    Args:
        model: the base and the paths that reconstruct.
        x: the originals, ``[B, 3, H, W]`` in [0, 1], padded.
        importance: ``[B, 1, H, W]``, at least 0: weight of each pixel, 0 in the padding.
        readers: at least one.
    """

    def __init__(
        self,
        model: MPAModel,
        x: Tensor,
        importance: Tensor,
        readers: Sequence[Reader] = (MAIN_READER,),
    ) -> None:
        self._model = model
        self._x = x
        self._importance = importance
        self._readers = readers

    def of(self, tile: Tile) -> Distortion:
        """Return the distortion of a tile."""
        x, importance = (tile.cut(each, 1) for each in (self._x, self._importance))
        return Distortion(self._model, x, importance, self._readers)

    def error(self, y_hat: Tensor, quality: Quality, *, shown: bool = False) -> Tensor:
        """Return the sum over pixels and channels of the weighted squared error, ``[B]``.

        Args:
            y_hat: ``[B, M, h, w]``.
            quality: quality of each picture.
            shown: clamp the pictures to [0, 1], as a reader sees them. Without it, a value outside
                keeps its gradient.
        """
        total = self._x.new_zeros(len(self._x))
        for reader in self._readers:
            x_hat = self._model.reconstruct(y_hat, quality, reader.mix)
            if shown:
                x_hat = x_hat.clamp(0, 1)
            squared = self._importance * (x_hat - self._x).square()
            total = total + reader.weight * squared.sum((1, 2, 3))
        return total


def pixel_weights(x: Tensor, height: int, width: int, importance: Any = None) -> Tensor:
    """Return the weight of each pixel of a padded picture, ``[1, 1, H, W]``.

    Args:
        x: the picture, ``[1, 3, H, W]``.
        height, width: its size without the padding, whose weight is 0.
        importance: ``[height, width]``: an array or tensor of numbers of at least 0, or a PIL
            image, of whose mode ``L`` the values are taken; None for 1 everywhere.

    Raises:
        ImageError: ``importance`` is anything else, or 0 everywhere.
    """
    weights = torch.zeros_like(x[:, :1])
    weights[..., :height, :width] = 1 if importance is None else _checked(importance, height, width)
    return weights


def _checked(importance: Any, height: int, width: int) -> Tensor:
    expected = f"a 2-D array, PIL image or tensor of {width}x{height} numbers of at least 0"
    try:
        if hasattr(importance, "convert"):
            importance = importance.convert("L")
        if hasattr(importance, "detach"):
            importance = importance.detach().cpu()
        array = np.asarray(importance, dtype=np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ImageError(
            f"importance is {shown(importance)}, expected {expected}; give one"
        ) from error
    if array.shape != (height, width):
        found = "x".join(map(str, array.shape[::-1])) or "a number"
        raise ImageError(
            f"importance has the size {found}, expected {width}x{height}, as the picture upright; "
            "give a weight for each of its pixels"
        )
    if not np.isfinite(array).all() or array.min() < 0 or array.max() == 0:
        raise ImageError(
            f"importance has values from {array.min():g} to {array.max():g}, expected {expected}, "
            "more than 0 somewhere; give such weights"
        )
    # The largest is 1: float32 then holds the sums of any weights.
    return torch.from_numpy(array / array.max())
