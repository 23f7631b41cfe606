"""Data sets of photos, whole or cropped; an index always gives the same picture."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpa_core.tasks.photos import Indexed, PhotoFolder, Pixel, random_crop
from mpa_core.tasks.samples import Sample
from mpa_core.tasks.seeds import Stream, generator


class PhotoSamples(Indexed[Sample]):
    """Samples that each show a photo or a part of it; ``per_photo`` samples for each photo.

    Sample ``i`` shows photo ``i // per_photo``. A sample whose photo turns out to be damaged raises
    :class:`ImageError`: training then takes the next one, and ``mpa eval`` leaves it out.

    Args:
        photos: the photos.
        per_photo: number of samples for each photo.
    """

    def __init__(self, photos: PhotoFolder, per_photo: int = 1) -> None:
        self.photos = photos
        self.per_photo = per_photo

    def __len__(self) -> int:
        return len(self.photos) * self.per_photo

    @abstractmethod
    def cut(self, picture: NDArray[Pixel], index: int) -> NDArray[Pixel]:
        """Return the part of ``picture`` [H, W, ...] that sample ``index`` shows.

        ``picture`` is its photo, or another array of that size such as its mask.
        """

    def item(self, index: int) -> Sample:
        """Return sample ``index``."""
        photo = self.photos[index // self.per_photo]
        return Sample(np.ascontiguousarray(self.cut(photo, index)))


class PhotoCrops(PhotoSamples):
    """Square crops of the photos in a folder: ``per_photo`` of each, fixed by the seed.

    Nothing is drawn anew from epoch to epoch, so that the latents of a crop can be computed once
    and kept.

    Args:
        folder: photos, at any depth below it; those with a side under ``crop`` are left out.
        crop: side in pixels.
        per_photo: number of crops of each photo.
        seed: seed that fixes the crops.
        flip: mirror half of the crops left to right.
        transpose: draw each crop's orientation from all eight instead.
        scale: smallest and largest factor, in (0, 1], by which photos are made smaller before a
            crop is cut; each crop's factor is drawn between them.
        cache_mib: memory in MiB in which decoded photos are kept.

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
        scale: tuple[float, float] = (1.0, 1.0),
        cache_mib: int = 4096,
    ) -> None:
        super().__init__(PhotoFolder(folder, min_side=crop, cache_mib=cache_mib), per_photo)
        self.crop = crop
        self.seed = seed
        self.flip = flip
        self.transpose = transpose
        self.scale = scale

    def cut(self, picture: NDArray[Pixel], index: int) -> NDArray[Pixel]:
        """Return the crop that sample ``index`` shows."""
        random = generator(self.seed, Stream.PATH_CROP, index)
        return random_crop(
            picture,
            self.crop,
            random,
            flip=self.flip,
            transpose=self.transpose,
            scale=self.scale,
        )


class WholePhotos(PhotoSamples):
    """The photos of a folder, uncropped, in the order of their names, each of its own size.

    Args:
        folder: photos, at any depth below it.
        cache_mib: memory in MiB in which decoded photos are kept.

    Attributes:
        paths: the file of each sample.

    Raises:
        TrainingError: no photo can be used.
    """

    def __init__(self, folder: Path, *, cache_mib: int = 1024) -> None:
        super().__init__(PhotoFolder(folder, min_side=1, cache_mib=cache_mib))
        self.paths = self.photos.paths

    def cut(self, picture: NDArray[Pixel], index: int) -> NDArray[Pixel]:
        """Return all of ``picture``."""
        del index
        return picture
