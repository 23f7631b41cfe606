"""How the ``detection`` path is trained: equation (9) with a frozen object detector."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mpa_core.config import StrictModel
from mpa_core.tasks import Metric, PathBatch, Recipe, Sample, Split, freeze, psnr_metric
from mpa_plugin_detection.classes import CLASSES
from mpa_plugin_detection.composites import AREA_PER_STAMP, Composites
from mpa_plugin_detection.detector import Detector
from mpa_plugin_detection.distillation import distil
from mpa_plugin_detection.judging import Judge
from mpa_plugin_detection.stamps import FILES, STAMPS, load_stamps

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class DetectionRecipe(Recipe):
    """Any folder of photos: the labels are the detector's own predictions on the original.

    Cut-outs of things that it knows are pasted on the photos, since most photos have few of them;
    the test pictures show cut-outs that are never trained with. What the detector says of the
    original composite is the label in training. The exact boxes of the cut-outs are for the metrics
    alone.
    """

    class Settings(StrictModel):
        """Options of the recipe."""

        stamps: Path | None = Path(STAMPS)
        """Tux Paint's stamps (Debian: tuxpaint-stamps-default); null takes photos as they are, and
        leaves out the metrics against exact boxes."""
        classes: Weight = 4.0
        """Weight of the divergence of the classes' scores."""
        boxes: Weight = 1.0
        """Weight of the divergence of the boxes' sides."""
        features: Weight = 4.0
        """Weight of the relative difference of the detector's features."""
        threshold: Annotated[float, Field(ge=0.05, lt=1)] = 0.3
        """A detection on the original counts as an object, for the metrics, from this score on."""

    defaults: ClassVar[Mapping[str, Any]] = {
        # Begun as copies of the main MLPs: the time goes into what the detector needs otherwise.
        "path": {"hidden_ratio": 2.0},
        "init": {"mlp": "main"},
        "data": {"batch": 4, "crop": 192, "crops_per_photo": 4},
        "loss": {
            "perceptual": "efficientnet-lite0",
            "perceptual_weight": 4.26,
            # The detector's own features say most of what these do.
            "perceptual_images": 2,
            "distortion_weight": 0.25,
            "task_weight": 4.0,
            "quality_sampling": "per_image",
            "loss_scale": "sqrt_rate",
            "full_share": 0.5,
        },
        "optim": {"lr": 1e-3, "ema_decay": 0.995},
        "schedule": {"kind": "cosine", "warmup": 0.03},
        "budget": {"hours": 0.8},
    }

    settings: Settings

    def setup(self, device: torch.device) -> None:
        self.detector = freeze(Detector().to(device))

    def task_loss(self, x_hat: Tensor, batch: PathBatch) -> Tensor:
        """That of readers, on the original composite: no exact box is used."""
        return self.reader_loss(batch.images)(x_hat)

    def reader_loss(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        """The weighted terms of :func:`distil` for each picture, [B]."""
        settings = self.settings
        with torch.no_grad():
            wanted = self.detector(images)

        def loss(x_hat: Tensor) -> Tensor:
            terms = distil(self.detector(x_hat), wanted)
            return (
                settings.classes * terms.classes
                + settings.boxes * terms.boxes
                + settings.features * terms.features
            )

        return loss

    def dataset(self, root: Path, split: Split, crop: int | None) -> Sequence[Sample]:
        photos = super().dataset(root, split, crop)
        if self.settings.stamps is None:
            return photos
        stamps = load_stamps(self.settings.stamps, "test" if split == "test" else "train")
        training = split == "train"
        return Composites(
            photos,
            stamps,
            area_per_stamp=AREA_PER_STAMP["train" if training else "test"],
            # The pictures that paths are judged by do not change with the seed of a training.
            seed=self.seed if training else 0,
        )

    def metrics(self) -> Mapping[str, Metric]:
        """Mean average precision against the detections on the original, and exact; PSNR.

        With stamps the classes that count are theirs, otherwise all of the detector's.
        """
        stamps = self.settings.stamps is not None
        names = FILES if stamps else CLASSES
        labels = [CLASSES.index(name) for name in names]
        judge = Judge(self.detector, self.settings.threshold, labels)
        exact = judge.exact() if stamps else {}
        return {**judge.agreement(), **exact, "psnr": psnr_metric()}
