"""Photos with label maps in separate files, such as ADE20K's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mpa_core.errors import TrainingError
from mpa_core.tasks import Indexed, PhotoSamples, Sample, load_image
from mpa_plugins.seg.scores import IGNORED


class MaskedPhotos(Indexed[Sample]):
    """Photos and their masks, whole or cropped; target ``mask``, int64 [H, W].

    The mask of ``ROOT/a/b.jpg`` is ``MASKS/<name of ROOT>/a/b.png``, or ``MASKS/a/b.png``: an 8-bit
    picture whose values are labels.

    Args:
        photos: photos below ``root``, whole or cropped.
        root: folder of the photos.
        masks: folder of masks.
        first_label: value of class 0. Values below it, and 255, are ignored.

    Raises:
        TrainingError: a photo has no mask, or, when it is asked for, one of another size.
    """

    def __init__(self, photos: PhotoSamples, root: Path, masks: Path, *, first_label: int) -> None:
        self.photos = photos
        self.first_label = first_label
        folders = (masks / root.resolve().name, masks)
        self.masks = [_mask_of(path, root, folders) for path in photos.photos.paths]

    def __len__(self) -> int:
        return len(self.photos)

    def item(self, index: int) -> Sample:
        """Return sample ``index``.

        Raises:
            ImageError: its photo or its mask is damaged.
            TrainingError: its mask does not have the size of the photo.
        """
        labels = self.photos.cut(self._labels(index // self.photos.per_photo), index)
        mask = torch.from_numpy(np.ascontiguousarray(labels))
        return Sample(self.photos[index].image, {"mask": mask})

    def _labels(self, photo: int) -> NDArray[np.int64]:
        path, shape = self.masks[photo], self.photos.photos.shapes[photo][:2]
        stored = np.asarray(load_image(path)).astype(np.int64)
        if stored.shape != shape:
            raise TrainingError(
                f"{path}: a mask of shape {stored.shape} for a photo of {shape}; expected one "
                "label per pixel, in a picture of one channel"
            )
        labels = stored - self.first_label
        return np.where((labels < 0) | (stored == IGNORED), IGNORED, labels)


def _mask_of(photo: Path, root: Path, folders: Sequence[Path]) -> Path:
    inside = photo.relative_to(root).with_suffix(".png")
    for folder in folders:
        if (folder / inside).is_file():
            return folder / inside
    raise TrainingError(
        f"{photo}: no mask of it at {folders[-1] / inside}; recipe.masks is a folder with a PNG of "
        "labels for each photo, or null for pasted stamps"
    )
