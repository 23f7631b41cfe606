"""The aim of a search: that the picture which a reader will see is near the original."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mpa_core.arguments import shown
from mpa_core.base.gains import Quality
from mpa_core.coding.effort.readers import MAIN_READER, Reader, TaskLoss
from mpa_core.coding.effort.tiles import Tile
from mpa_core.coding.model import MPAModel
from mpa_core.errors import ImageError

TASK_SHARE = 0.5
"""Share of the task in the error of a reader that has one; the squared error has the rest."""


class _Term(NamedTuple):
    """A reader, and its task on the pictures at hand."""

    reader: Reader
    task: TaskLoss | None
    units: Tensor
    """Squared error that a unit of the task's loss counts for, ``[B]``."""


class Distortion:
    """How far the readers' pictures are from the original.

    Args:
        model: the base and the paths that reconstruct.
        x: the originals, ``[B, 3, H, W]`` in [0, 1], padded.
        importance: ``[B, 1, H, W]``, from 0 to 1: weight of each pixel, 0 in the padding.
        size: height and width of the pictures inside ``x``, from its top left corner.
        readers: at least one.

    Attributes:
        importance: as given.
    """

    def __init__(
        self,
        model: MPAModel,
        x: Tensor,
        importance: Tensor,
        size: tuple[int, int],
        readers: Sequence[Reader] = (MAIN_READER,),
    ) -> None:
        self._model = model
        self._x = x
        self.importance = importance
        self._size = size
        self._terms = [_Term(reader, None, x.new_zeros(len(x))) for reader in readers]

    @property
    def uniform(self) -> bool:
        """Whether all pixels of the pictures count alike."""
        inside = self._picture(self.importance)
        return bool(inside.min() == inside.max())

    def of(self, tile: Tile) -> Distortion:
        """Return the distortion of a tile, without the tasks."""
        x, importance = (tile.cut(each, 1) for each in (self._x, self.importance))
        readers = [term.reader for term in self._terms]
        return Distortion(self._model, x, importance, tile.inside(*self._size), readers)

    def with_tasks(self, y_hat: Tensor, quality: Quality) -> Distortion:
        """Return a distortion to which the tasks of the readers belong.

        A task's loss counts in units of the squared error: so many that the gradients of both by
        ``y_hat`` are equally long where the search begins. A picture's own curve, by which bits and
        squared error are exchanged, says nothing here: along it, a task's loss rises and falls by
        chance.

        Args:
            y_hat: ``[B, M, h, w]``, where the search begins.
            quality: quality of each picture.
        """
        found = copy.copy(self)
        found._terms = [self._with_task(reader, y_hat, quality) for reader, _, _ in self._terms]
        return found

    def _with_task(self, reader: Reader, y_hat: Tensor, quality: Quality) -> _Term:
        task = None if reader.task is None else reader.task(self._picture(self._x))
        if task is None:
            return _Term(reader, None, self._x.new_zeros(len(self._x)))
        with torch.enable_grad():
            start = y_hat.detach().clone().requires_grad_(True)
            x_hat = self._model.reconstruct(start, quality, reader.mix)
            losses = self._squared(x_hat), task(self._picture(x_hat))
            squared, of_task = (_length(loss, start) for loss in losses)
        return _Term(reader, task, torch.where(of_task > 0, squared / of_task, 0.0))

    def error(self, y_hat: Tensor, quality: Quality, *, shown: bool = False) -> Tensor:
        """Return the error, the mean over the readers by their weights, ``[B]``.

        The error of a reader is the sum over pixels and channels of the weighted squared error; for
        one with a task, a mean of this and of the task's loss.

        Args:
            y_hat: ``[B, M, h, w]``.
            quality: quality of each picture.
            shown: clamp the pictures to [0, 1], as a reader sees them. Without it, a value outside
                keeps its gradient.
        """
        total = self._x.new_zeros(len(self._x))
        for reader, task, units in self._terms:
            x_hat = self._model.reconstruct(y_hat, quality, reader.mix)
            if shown:
                x_hat = x_hat.clamp(0, 1)
            error = self._squared(x_hat)
            if task is not None:
                error = torch.lerp(error, units * task(self._picture(x_hat)), TASK_SHARE)
            total = total + reader.weight * error
        return total

    def _squared(self, x_hat: Tensor) -> Tensor:
        return (self.importance * (x_hat - self._x).square()).sum((1, 2, 3))

    def _picture(self, x: Tensor) -> Tensor:
        """Return ``x`` without the padding."""
        return x[..., : self._size[0], : self._size[1]]


def _length(loss: Tensor, start: Tensor) -> Tensor:
    """Return the length of each picture's gradient, ``[B]``; 0 where a loss has none."""
    (gradient,) = torch.autograd.grad(loss.sum(), start, retain_graph=True, materialize_grads=True)
    return gradient.flatten(1).norm(dim=1)


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
