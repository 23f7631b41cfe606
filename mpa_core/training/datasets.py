"""Data sets of stage 2: pictures by index, the same picture every time an index is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mpa_core.training.data import PhotoFolder

_PATH_CROP = 4  # stream of the seed; the others are in data.py and stage1.py


@dataclass(frozen=True)
class Sample:
    """One picture and what a task knows about it."""

    image: NDArray[np.uint8]
    """RGB, [H, W, 3]."""
    target: Mapping[str, Tensor] = field(default_factory=dict)
    """Labels, masks, strings as numbers: of one shape per name, so that a batch can stack them."""


class PhotoCrops(Sequence[Sample]):
    """Square crops of the photos in a folder: ``per_photo`` of each, fixed by the seed.

    Sample ``i`` is crop ``i % per_photo`` of photo ``i // per_photo``. Nothing is drawn anew from
    epoch to epoch: that is what lets the latents of a crop be computed once and kept.

    Args:
        folder: photos, at any depth below it; those with a side under ``crop`` are left out.
        crop: side in pixels.
        per_photo: crops of each photo.
        seed: another one gives other crops.
        flip: mirror half of the crops left to right.
        transpose: draw each crop's orientation from all eight instead.
        cache_mib: memory in which decoded photos are kept.

    Raises:
        TrainingError: no photo can be used.
    """

    def __init__(
        self,
        folder: Path,
        crop: int,
        *,
        per_photo: int = 4,
        seed: int = 0,
        flip: bool = True,
        transpose: bool = False,
        cache_mib: int = 4096,
    ) -> None:
        self.photos = PhotoFolder(folder, min_side=crop, cache_mib=cache_mib)
        self.crop = crop
        self.per_photo = per_photo
        self.seed = seed
        self.flip = flip
        self.transpose = transpose

    def __len__(self) -> int:
        return len(self.photos) * self.per_photo

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        photo = self.photos[range(len(self))[index] // self.per_photo]
        random = np.random.default_rng((self.seed, _PATH_CROP, range(len(self))[index]))
        top = int(random.integers(0, photo.shape[0] - self.crop, endpoint=True))
        left = int(random.integers(0, photo.shape[1] - self.crop, endpoint=True))
        turn = int(random.integers(0, 8))
        crop = photo[top : top + self.crop, left : left + self.crop]
        if self.transpose:
            crop = np.rot90(crop, turn % 4)
        if (self.flip or self.transpose) and turn >= 4:
            crop = crop[:, ::-1]
        return Sample(np.ascontiguousarray(crop))


class WholePhotos(Sequence[Sample]):
    """The photos of a folder as they are, in the order of their names, each of its own size.

    ``paths[i]`` is the file of sample ``i``. Raises :class:`TrainingError` if there is none.
    """

    def __init__(self, folder: Path, *, cache_mib: int = 1024) -> None:
        self.photos = PhotoFolder(folder, min_side=1, cache_mib=cache_mib)
        self.paths = self.photos.paths

    def __len__(self) -> int:
        return len(self.photos)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return Sample(self.photos[range(len(self))[index]])
