"""Photos with label maps in files beside them, such as ADE20K's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mpa_core.errors import TrainingError
from mpa_core.training.data import PhotoFolder
from mpa_core.training.datasets import Sample
from mpa_plugins.seg.scores import IGNORED

_STREAM = 42  # of the seed


class MaskedPhotos(Sequence[Sample]):
    """Photos and their masks, whole or as fixed square crops; target ``mask``, int64 [H, W].

    The mask of ``ROOT/a/b.jpg`` is ``MASKS/<name of ROOT>/a/b.png``, or ``MASKS/a/b.png``: an
    8-bit picture whose values are labels.

    Args:
        root: photos, at any depth below it.
        masks: folder of masks.
        first_label: value of class 0. Values below it, and 255, do not count.
        crop: side in pixels; None for whole photos.
        per_photo: crops of each photo.
        seed: of the crops; half of them are mirrored.
        cache_mib: memory in which decoded photos are kept.

    Raises:
        TrainingError: no photo can be used, or one has no mask of its size.
    """

    def __init__(
        self,
        root: Path,
        masks: Path,
        *,
        first_label: int,
        crop: int | None,
        per_photo: int,
        seed: int,
        cache_mib: int,
    ) -> None:
        self.photos = PhotoFolder(root, min_side=crop or 1, cache_mib=cache_mib)
        self.paths = self.photos.paths
        self.first_label = first_label
        self.crop = crop
        self.per_photo = per_photo if crop is not None else 1
        self.seed = seed
        self.masks = [_mask_of(path, root, masks) for path in self.paths]

    def __len__(self) -> int:
        return len(self.photos) * self.per_photo

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        photo = self.photos[at // self.per_photo]
        labels = self._labels(at // self.per_photo, photo.shape)
        if self.crop is not None:
            random = np.random.default_rng((self.seed, _STREAM, at))
            top = int(random.integers(0, photo.shape[0] - self.crop, endpoint=True))
            left = int(random.integers(0, photo.shape[1] - self.crop, endpoint=True))
            step = -1 if random.integers(2) else 1
            here = (slice(top, top + self.crop), slice(left, left + self.crop))
            photo, labels = photo[here][:, ::step], labels[here][:, ::step]
        mask = torch.from_numpy(np.ascontiguousarray(labels))
        return Sample(np.ascontiguousarray(photo), {"mask": mask})

    def _labels(self, photo: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
        path = self.masks[photo]
        with Image.open(path) as file:
            stored = np.asarray(file).astype(np.int64)
        if stored.shape != shape[:2]:
            raise TrainingError(
                f"{path}: a mask of shape {stored.shape} for a photo of {shape[:2]}; expected one "
                "label per pixel, in a picture of one channel"
            )
        labels = stored - self.first_label
        return np.where((labels < 0) | (stored == IGNORED), IGNORED, labels)


def _mask_of(photo: Path, root: Path, masks: Path) -> Path:
    inside = photo.relative_to(root).with_suffix(".png")
    for path in (masks / root.resolve().name / inside, masks / inside):
        if path.is_file():
            return path
    raise TrainingError(
        f"{photo}: no mask of it at {masks / inside}; recipe.masks is a folder with a PNG of "
        "labels for each photo, or null for pasted stamps"
    )
