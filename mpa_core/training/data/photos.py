"""Training batches from photos: every batch is a pure function of (seed, step).

The photo at each place of the run, its crop, its orientation and its quality follow from the seed
and the number of the place alone. So any number of workers or processes can divide the places of a
step among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpa_core.io.pixels import to_planes, to_unit
from mpa_core.tasks.photos import Replacing, random_crop
from mpa_core.tasks.seeds import Stream, generator
from mpa_core.training.data.loader import Source, forks
from mpa_core.training.data.places import Places
from mpa_core.training.settings.base import DataSettings, LossSettings


@dataclass(frozen=True)
class Batch:
    """Input of a step or of a part of it; it is sent as bytes."""

    pixels: Tensor
    """[B, 3, crop, crop] uint8, channels last in memory."""
    quality: Tensor
    """[B] float32, from 1 to the number of levels."""

    @property
    def images(self) -> Tensor:
        """[B, 3, crop, crop] float32 in [0, 1], channels last in memory; a new tensor."""
        return to_unit(self.pixels)

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch on ``device``, without waiting for copies from pinned memory."""
        return Batch(
            self.pixels.to(device, non_blocking=True), self.quality.to(device, non_blocking=True)
        )

    def pin_memory(self) -> Batch:
        """Return the same batch in pinned memory; torch's DataLoader calls it."""
        return Batch(self.pixels.pin_memory(), self.quality.pin_memory())


class PhotoBatches(Source[Batch]):
    """Batches of crops, by step.

    A damaged photo is replaced; see :class:`~mpa_core.tasks.photos.Replacing`.

    Args:
        photos: RGB [H, W, 3] uint8 each.
        data, loss: settings.
        levels: number of quality levels of the base.
        seed: seed that fixes order, crops and qualities.
    """

    def __init__(
        self,
        photos: Sequence[NDArray[np.uint8]],
        data: DataSettings,
        loss: LossSettings,
        *,
        levels: int,
        seed: int,
    ) -> None:
        self.photos = photos
        self._whole = Replacing(photos)
        self.data = data
        self.seed = seed
        self.places = Places(len(photos), data.batch, loss, levels=levels, seed=seed)

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps in which every photo is seen about once."""
        return self.places.steps_per_epoch

    def workers_for(self, device: torch.device) -> int:
        """Return 1 where photos are read repeatedly or a GPU should not wait, else 0.

        It is also 0 where a worker does not start as a copy of this process, since there a program
        that trains has to be written for it.
        """
        if not forks():
            return 0
        pixels = sum(int(np.prod(s)) for s in getattr(self.photos, "shapes", ()))
        return int(device.type != "cpu" or pixels > self.data.cache_mib * 2**20)

    def batch(self, step: int, rows: Sequence[int] | None = None) -> Batch:
        """Cut the crops of ``step`` (counted from 0), or only of these ``rows`` of it."""
        side, places = self.data.crop, self.places.of(step)
        chosen = list(range(len(places)) if rows is None else rows)
        pixels = np.empty((len(chosen), side, side, 3), np.uint8)
        for index, row in enumerate(chosen):
            pixels[index] = self._crop(places[row])
        return Batch(to_planes(pixels), self.places.quality(step)[chosen])

    def _crop(self, place: int) -> NDArray[np.uint8]:
        data = self.data
        return random_crop(
            self._whole[self.places.item(place)],
            data.crop,
            generator(self.seed, Stream.CROP, place),
            flip=data.flip,
            transpose=data.transpose,
            scale=data.scale,
        )
