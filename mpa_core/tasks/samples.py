"""Pictures with a task's knowledge of them, one by one and in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpa_core.errors import TrainingError
from mpa_core.io.pixels import to_tensor


@dataclass(frozen=True)
class Sample:
    """One picture and a task's knowledge of it."""

    image: NDArray[np.uint8]
    """RGB uint8, [H, W, 3]."""
    target: Mapping[str, Tensor] = field(default_factory=dict)
    """Labels, masks, strings as numbers: each name has one shape in all samples, so that a batch
    can stack them."""


@dataclass(frozen=True)
class PathBatch:
    """The originals that a batch of reconstructions is compared with."""

    images: Tensor
    """[B, 3, H, W] float32 in [0, 1]."""
    targets: Mapping[str, Tensor]
    """The samples' targets by name, stacked: [B, ...] each."""
    quality: Tensor
    """[B] float32, from 1 to the number of levels: the quality at which each picture was coded."""

    def to(self, device: torch.device | str) -> PathBatch:
        """Return the same batch on ``device``."""
        targets = {name: value.to(device) for name, value in self.targets.items()}
        return PathBatch(self.images.to(device), targets, self.quality.to(device))


def collate(samples: Sequence[Sample], quality: Tensor) -> PathBatch:
    """Stack samples to a batch.

    Args:
        samples: all of one size and with the same targets.
        quality: [B], the quality of each.

    Raises:
        TrainingError: they cannot be stacked.
    """
    shapes = {(sample.image.shape, str(sample.image.dtype)) for sample in samples}
    names = {frozenset(sample.target) for sample in samples}
    if len(shapes) != 1 or len(names) != 1 or next(iter(shapes))[1] != "uint8":
        raise TrainingError(
            f"the recipe's samples cannot be one batch: images {sorted(shapes)}, targets "
            f"{sorted(map(sorted, names))}; dataset() must give uint8 pictures of one size and "
            "the same targets for all"
        )
    images = to_tensor(np.stack([sample.image for sample in samples]))
    try:
        targets = {
            name: torch.stack([sample.target[name] for sample in samples])
            for name in sorted(samples[0].target)
        }
    except (RuntimeError, TypeError) as error:
        raise TrainingError(
            f"the recipe's targets cannot be stacked: {error}; dataset() must give tensors of one "
            "shape for each name"
        ) from error
    return PathBatch(images, targets, quality)
