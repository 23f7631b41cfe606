"""Photos to training batches: every batch is a pure function of (seed, step).

Which photo stands at which place, its crop, its orientation and its quality follow from the seed
and the place's number in the run alone. So a resumed run sees exactly the batches it would have
seen, and any number of workers or processes can share the places of a step out among them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpa_core.errors import ImageError, TrainingError
from mpa_core.images import load_image, to_rgb_tensor
from mpa_core.training.config import DataSettings, LossSettings

logger = logging.getLogger(__name__)

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".gif", ".avif", ".jp2"}
)

# Each use of the seed has a stream of its own.
_ORDER, _CROP, _QUALITY = 0, 1, 2


@dataclass(frozen=True)
class Batch:
    """One step's input."""

    images: Tensor
    """[B, 3, crop, crop] float32 in [0, 1], channels last in memory."""
    quality: Tensor
    """[B] float32, 1..levels."""


def find_photos(folder: Path) -> list[Path]:
    """All pictures below ``folder`` in a fixed order; :class:`TrainingError` if there are none."""
    if not folder.is_dir():
        raise TrainingError(f"{folder}: not a folder; --data and --val take folders of photos")
    found = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]
    if not found:
        raise TrainingError(
            f"{folder}: no photos in it; expected files ending in {', '.join(sorted(SUFFIXES))}"
        )
    return sorted(found)


def read_photo(path: Path) -> NDArray[np.uint8]:
    """A photo as RGB [H, W, 3] uint8; raises :class:`ImageError` if it cannot be read."""
    tensor = to_rgb_tensor(load_image(path)).tensor[0]
    return np.ascontiguousarray((tensor * 255.0).round().byte().permute(1, 2, 0).numpy())


class PhotoFolder:
    """The photos of a folder, decoded once and kept while they fit in ``cache_mib``.

    Photos that cannot be read, or with a side below ``min_side``, are left out; how many is in
    ``broken`` and ``small`` and in a warning. Raises :class:`TrainingError` if none is left.
    """

    def __init__(self, folder: Path, *, min_side: int, cache_mib: int) -> None:
        room = cache_mib * 2**20
        self.broken: list[Path] = []
        self.small: list[Path] = []
        self.shapes: list[tuple[int, ...]] = []
        """[H, W, 3] of each photo."""
        self.paths: list[Path] = []
        """File of each photo."""
        self._photos: list[Path | NDArray[np.uint8]] = []
        for path in find_photos(folder):
            try:
                pixels = read_photo(path)
            except ImageError as error:
                logger.warning("left out: %s", error)
                self.broken.append(path)
                continue
            if min(pixels.shape[:2]) < min_side:
                self.small.append(path)
                continue
            self.shapes.append(pixels.shape)
            self.paths.append(path)
            if pixels.nbytes <= room:
                room -= pixels.nbytes
                self._photos.append(pixels)
            else:
                self._photos.append(path)
        if self.broken or self.small:
            logger.warning(
                "%s: %d photos left out as unreadable, %d as smaller than %d pixels",
                folder, len(self.broken), len(self.small), min_side,
            )  # fmt: skip
        if not self._photos:
            raise TrainingError(
                f"{folder}: none of its photos can be used: {len(self.broken)} are unreadable and "
                f"{len(self.small)} have a side below {min_side} pixels; add photos or set a "
                "smaller data.crop"
            )

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        photo = self._photos[index]
        return photo if isinstance(photo, np.ndarray) else read_photo(photo)

    @property
    def cached(self) -> bool:
        """Whether every photo is in memory."""
        return all(isinstance(photo, np.ndarray) for photo in self._photos)


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
            random = np.random.default_rng((self.seed, _ORDER, epoch))
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
        return self.level(np.random.default_rng((self.seed, _QUALITY, number)))


class BatchSource:
    """Batches by step. Where photos must be decoded, the next step's are while one is in use."""

    def __init__(
        self,
        photos: Sequence[NDArray[np.uint8]] | PhotoFolder,
        data: DataSettings,
        loss: LossSettings,
        *,
        levels: int,
        seed: int,
    ) -> None:
        self.photos = photos
        self.data = data
        self.loss = loss
        self.seed = seed
        self.places = Places(len(photos), data.batch, loss, levels=levels, seed=seed)
        ahead = isinstance(photos, PhotoFolder) and not photos.cached
        self._pool = ThreadPoolExecutor(1, "photos") if ahead else None
        self._next: tuple[int, tuple[int, ...], Future[Batch]] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every photo is seen about once."""
        return self.places.steps_per_epoch

    def batch(self, step: int, rows: Sequence[int] | None = None) -> Batch:
        """The batch of ``step`` (counted from 0), or these ``rows`` of it and no others."""
        chosen = tuple(range(self.data.batch) if rows is None else rows)
        if self._pool is None:
            return self._build(step, chosen)
        if self._next is not None and self._next[:2] == (step, chosen):
            batch = self._next[2].result()
        else:
            batch = self._build(step, chosen)
        self._next = (step + 1, chosen, self._pool.submit(self._build, step + 1, chosen))
        return batch

    def close(self) -> None:
        """Stop reading ahead."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _build(self, step: int, rows: tuple[int, ...]) -> Batch:
        side, places = self.data.crop, self.places.of(step)
        pixels = np.empty((len(rows), side, side, 3), np.uint8)
        for index, row in enumerate(rows):
            pixels[index] = self._crop(places[row])
        # A channels-last tensor and an NHWC array are the same bytes.
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255.0)
        return Batch(images, self.places.quality(step)[list(rows)])

    def _crop(self, place: int) -> NDArray[np.uint8]:
        photo = self.photos[self.places.item(place)]
        random = np.random.default_rng((self.seed, _CROP, place))
        side = self.data.crop
        top = int(random.integers(0, photo.shape[0] - side, endpoint=True))
        left = int(random.integers(0, photo.shape[1] - side, endpoint=True))
        turn = int(random.integers(0, 8))
        crop = photo[top : top + side, left : left + side]
        if self.data.transpose:
            crop = np.rot90(crop, turn % 4)
            return crop[:, ::-1] if turn >= 4 else crop
        return crop[:, ::-1] if self.data.flip and turn >= 4 else crop
