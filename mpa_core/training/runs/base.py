"""A run of stage 1a or 1b: photos, a base codec, its validation."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from mpa_core.coding.model import MPAModel
from mpa_core.errors import TrainingError
from mpa_core.tasks.photos import PhotoFolder
from mpa_core.training.data.photos import Batch, PhotoBatches
from mpa_core.training.engine.loop import Validator
from mpa_core.training.engine.trainer import Trainer
from mpa_core.training.objectives.base import BaseObjective
from mpa_core.training.runs.job import Job
from mpa_core.training.runs.weights import pretrained
from mpa_core.training.settings.base import TrainConfig
from mpa_core.training.validation.photos import PhotoValidator, load_validation_photos

if TYPE_CHECKING:
    from accelerate import Accelerator


class BaseJob(Job[Batch, MPAModel]):
    """Training of a base codec on a folder of photos.

    Args:
        config: settings.
        photos: folder of photos.
        val: folder of photos to validate on, or None.
        accelerator: the processes.
    """

    def __init__(
        self, config: TrainConfig, photos: Path, val: Path | None, accelerator: Accelerator
    ) -> None:
        self.config = config
        self.folder = photos
        self.val = val
        self.accelerator = accelerator

    def prepare(self) -> None:
        """Read the headers of the photos, and the photos for validation, and build the networks."""
        config = self.config
        self.photos = PhotoFolder(
            self.folder, min_side=config.data.crop, cache_mib=config.data.cache_mib
        )
        self.held_out = None
        if self.val is not None:
            self.held_out = load_validation_photos(
                self.val, config.run.validate_images, config.run.validate_side
            )
        self.trainer = build_base_trainer(config, self.photos, self.accelerator)

    def data(self) -> dict[str, str]:
        """Return the number of photos, and a digest of their sizes."""
        digest = hashlib.sha256(repr(self.photos.shapes).encode()).hexdigest()
        return {"photos": f"{len(self.photos)} photos, {digest[:12]}"}

    def weights_of(self, source: str) -> MPAModel:
        """Return a base (folder or bundled id), or the averaged weights of a run.

        Raises:
            CheckpointError: ``source`` is neither.
            TrainingError: the base has another architecture than the settings' model.
        """
        model = pretrained(source)
        if model.config != self.config.model:
            raise TrainingError(
                f"{source}: a base of another architecture than the settings' model; leave the "
                "model out of them to take the base's own"
            )
        return model

    def validator(self, folder: Path) -> Validator | None:
        """Return the validator of bits and PSNR at every quality level."""
        if self.held_out is None:
            return None
        return PhotoValidator(
            self.trainer.averaged,
            self.held_out,
            folder=folder if self.config.run.validate_samples else None,
        )


def build_base_trainer(
    config: TrainConfig, photos: PhotoFolder, accelerator: Accelerator
) -> Trainer[Batch, MPAModel]:
    """Build batches, networks and optimisers of stage 1a or 1b, ready for the first step.

    Seeds torch. The caller has to close the trainer. The errors are those of
    :func:`mpa_core.training.runs.run.train`.
    """
    source = PhotoBatches(
        photos,
        config.data,
        config.loss,
        levels=config.model.quality_levels,
        seed=config.seed,
    )
    return Trainer(config, BaseObjective(config, source, accelerator), source, accelerator)
