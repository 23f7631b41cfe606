"""Photos to training batches: every batch is a pure function of (seed, step).

Which photo stands at which place, its crop, its orientation and its quality follow from the seed
and the place's number in the run alone. So a resumed run sees exactly the batches it would have
seen, and any number of workers or processes can share the places of a step out among them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpa_core.tasks.photos import PhotoFolder, Replacing, random_crop
from mpa_core.tasks.seeds import Stream, generator
from mpa_core.training.settings.base import DataSettings, LossSettings


@dataclass(frozen=True)
class Batch:
    """One step's input."""

    images: Tensor
    """[B, 3, crop, crop] float32 in [0, 1], channels last in memory, on the source's device."""
    quality: Tensor
    """[B] float32, 1..levels."""


class Places:
    """Which item stands at each place of a run, and at which quality: functions of the seed.

    A run is a sequence of places, ``batch`` to a step; each epoch has every item once, in an order
    of its own.

    Args:
        count: items.
        batch: places in a step.
        loss: how qualities are drawn.
        levels: quality levels of the base.
        seed: fixes everything.
    """

    def __init__(
        self, count: int, batch: int, loss: LossSettings, *, levels: int, seed: int
    ) -> None:
        self.count = count
        self.size = batch
        self.loss = loss
        self.levels = levels
        self.seed = seed
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every item is seen about once."""
        return -(-self.count // self.size)

    def of(self, step: int) -> range:
        """The places of ``step`` (counted from 0)."""
        return range(step * self.size, (step + 1) * self.size)

    def item(self, place: int) -> int:
        """Index of the item at ``place``."""
        epoch, index = divmod(place, self.count)
        if self._order[0] != epoch:
            random = generator(self.seed, Stream.ORDER, epoch)
            self._order = (epoch, random.permutation(self.count))
        return int(self._order[1][index])

    def draw(self, step: int, draw: Callable[[int], float]) -> Tensor:
        """Values [B] of ``draw(number)``, one for the step or one per place, as is set."""
        if self.loss.quality_sampling == "per_step":
            values = [draw(step)] * self.size
        else:
            values = [draw(place) for place in self.of(step)]
        return torch.tensor(values, dtype=torch.float32)

    def quality(self, step: int) -> Tensor:
        """The qualities [B] of ``step``."""
        return self.draw(step, self._quality)

    def level(self, random: np.random.Generator) -> float:
        """A level between the first and the last, integer or real, as is set."""
        if self.loss.quality_values == "real":
            return float(random.uniform(1, self.levels))
        return float(random.integers(1, self.levels, endpoint=True))

    def _quality(self, number: int) -> float:
        return self.level(generator(self.seed, Stream.QUALITY, number))


class BatchSource:
    """Batches by step.

    The next step's batch is made while one is in use where that saves anything: where photos must
    be read, and where another device than the CPU does the work. A damaged photo is replaced; see
    :class:`~mpa_core.tasks.photos.Replacing`.

    Args:
        photos: RGB [H, W, 3] uint8 each.
        data, loss: settings.
        levels: quality levels of the base.
        seed: fixes order, crops and qualities.
        device: where images are wanted. They travel as bytes.
    """

    def __init__(
        self,
        photos: Sequence[NDArray[np.uint8]],
        data: DataSettings,
        loss: LossSettings,
        *,
        levels: int,
        seed: int,
        device: torch.device | None = None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.photos = photos
        self._whole = Replacing(photos)
        self.data = data
        self.loss = loss
        self.seed = seed
        self.places = Places(len(photos), data.batch, loss, levels=levels, seed=seed)
        self._pool = ThreadPoolExecutor(1, "photos")
        self._next: tuple[int, tuple[int, ...], Future[Batch]] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every photo is seen about once."""
        return self.places.steps_per_epoch

    def batch(self, step: int, rows: Sequence[int] | None = None) -> Batch:
        """The batch of ``step`` (counted from 0), or these ``rows`` of it and no others."""
        chosen = tuple(range(self.data.batch) if rows is None else rows)
        if self._next is not None and self._next[:2] == (step, chosen):
            batch = self._next[2].result()
        else:
            batch = self._build(step, chosen)
        reads = isinstance(self.photos, PhotoFolder) and not self.photos.cached
        ahead = reads or self.device.type != "cpu"
        future = self._pool.submit(self._build, step + 1, chosen) if ahead else None
        self._next = None if future is None else (step + 1, chosen, future)
        return batch

    def close(self) -> None:
        """Stop reading ahead."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _build(self, step: int, rows: tuple[int, ...]) -> Batch:
        side, places = self.data.crop, self.places.of(step)
        pixels = np.empty((len(rows), side, side, 3), np.uint8)
        for index, row in enumerate(rows):
            pixels[index] = self._crop(places[row])
        # A channels-last tensor and an NHWC array are the same bytes.
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        if self.device.type == "cuda":
            images = images.pin_memory()
        images = images.to(self.device, non_blocking=True).float().div_(255.0)
        return Batch(images, self.places.quality(step)[list(rows)])

    def _crop(self, place: int) -> NDArray[np.uint8]:
        random = generator(self.seed, Stream.CROP, place)
        data = self.data
        return random_crop(
            self._whole[self.places.item(place)],
            data.crop,
            random,
            flip=data.flip,
            transpose=data.transpose,
            scale=data.scale,
        )
