"""The recipe of the ``cls`` path: equation (9) with a frozen ImageNet classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mpa_core.config import StrictModel
from mpa_core.errors import ConfigError
from mpa_core.tasks import Metric, PathBatch, Recipe, Sample, Split, freeze, psnr_metric
from mpa_plugins.cls.classifier import Classifier
from mpa_plugins.cls.judging import Agreement, accuracy
from mpa_plugins.cls.labelled import LabelledCrops, LabelledPhotos
from mpa_plugins.cls.reading import reading_loss
from mpa_plugins.small_machine import SMALL_MACHINE

IMAGENET_CLASSES = 1000


class ClsRecipe(Recipe):
    """Training on any folder of photos, with the classifier's answer on the original as the label.

    With ``label: real`` the photos lie in folders named by ImageNet's classes (index, synset or
    name), and are mixed as timm does.
    """

    class Settings(StrictModel):
        """Options of the recipe."""

        classifier: str = "efficientnet-lite0"
        """Classifier to train with: a packaged model (:data:`mpa_core.tasks.PACKAGED`) or any model
        id of timm."""
        ensemble: tuple[str, ...] = ()
        """Further classifiers to train with: each batch draws one of all."""
        judge: str | None = "efficientnet-lite2"
        """Classifier for the metrics alone, not used in training; null leaves its metric out."""
        label: Literal["soft", "hard", "real"] = "soft"
        """``soft``: the classifier's probabilities on the original; ``hard``: its first answer;
        ``real``: the class of the photo's folder."""
        temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
        """Divisor of the logits on both sides of the soft cross-entropy, which is then multiplied
        by its square."""
        mixup: Annotated[float, Field(ge=0)] = 0.8
        """timm's alpha; used with real labels only, as are the two below. 0 turns it off."""
        cutmix: Annotated[float, Field(ge=0)] = 1.0
        label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
        tile: Annotated[int, Field(gt=0)] = 256
        """Side in pixels of the views on which agreement is counted."""
        stride: Annotated[int, Field(gt=0)] = 96
        """Largest distance between views: 28 of them on 768 x 512 pixels."""

    defaults: ClassVar[Mapping[str, Any]] = {
        **SMALL_MACHINE,
        # More weight on the features of a classifier, less on distortion than in the paper: its
        # answer on the original is matched sooner by its features than by the answer alone.
        "loss": {**SMALL_MACHINE["loss"], "perceptual_weight": 12.0, "distortion_weight": 0.25},
    }

    settings: Settings
    ensemble: nn.ModuleList

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Mixed pictures are drawn anew each time, so their latents cannot be kept.
        self.random = self._mixes

    def setup(self, device: torch.device) -> None:
        """Build the frozen classifiers.

        Raises:
            ConfigError: labels are real, and a classifier has other classes than ImageNet-1k's.
            MissingDependencyError: a classifier's weights are not on this machine.
        """
        self.device = device
        names = (self.settings.classifier, *self.settings.ensemble)
        self.ensemble = freeze(nn.ModuleList(Classifier(name) for name in names).to(device))
        for classifier in self._classifiers:
            if self.settings.label == "real" and classifier.classes != IMAGENET_CLASSES:
                raise ConfigError(
                    f"recipe.classifier {classifier.name!r} has {classifier.classes} "
                    f"classes, and class folders are of ImageNet-1k's {IMAGENET_CLASSES}; take a "
                    "classifier of those, or set recipe.label to soft"
                )

    @property
    def classifier(self) -> Classifier:
        """The classifier with which agreement is counted, the first of the ensemble."""
        return self._classifiers[0]

    @property
    def _classifiers(self) -> list[Classifier]:
        return [cast(Classifier, part) for part in self.ensemble]

    def task_loss(self, x_hat: Tensor, batch: PathBatch) -> Tensor:
        """Return the cross-entropy of the classifier on each picture [B], on the whole crop."""
        classifier = self._classifiers[int(torch.randint(len(self.ensemble), ()))]
        logits = classifier(x_hat)
        if "probabilities" in batch.targets:
            return F.cross_entropy(logits, batch.targets["probabilities"], reduction="none")
        if "label" in batch.targets:
            smoothing = self.settings.label_smoothing
            label = batch.targets["label"]
            return F.cross_entropy(logits, label, reduction="none", label_smoothing=smoothing)
        with torch.no_grad():
            wanted = classifier(batch.images)
        if self.settings.label == "hard":
            return F.cross_entropy(logits, wanted.argmax(1), reduction="none")
        heat = self.settings.temperature
        soft = F.cross_entropy(logits / heat, (wanted / heat).softmax(1), reduction="none")
        return soft * heat**2

    def reader_loss(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the divergence of the classifiers' answers from those on ``images``, [B].

        It is a mean over the whole ensemble and over views that cover the picture, of the size on
        which agreement is counted, whatever the labels are in training.
        """
        settings = self.settings
        return reading_loss(
            self._classifiers,
            images,
            side=settings.tile,
            stride=settings.tile,  # at every step: no more views than cover the picture
            temperature=settings.temperature,
        )

    def dataset(self, root: Path, split: Split, crop: int | None) -> Sequence[Sample]:
        """Return photos, or with real labels photos in class folders; see :class:`Recipe`."""
        if self.settings.label != "real":
            return super().dataset(root, split, crop)
        if split != "train" or crop is None:
            return LabelledPhotos(root, cache_mib=self.data.cache_mib)
        return LabelledCrops(
            root,
            crop,
            per_photo=self.data.crops_per_photo,
            seed=self.seed,
            mixup=self._mixup() if self._mixes else None,
            cache_mib=self.data.cache_mib,
        )

    def metrics(self) -> Mapping[str, Metric]:
        """Return the agreement of each model with itself, accuracy for real labels, and PSNR."""
        settings = self.settings
        models = {"": self.classifier}
        if settings.judge is not None:
            models["_unseen"] = freeze(Classifier(settings.judge).to(self.device))
        found = {
            f"agreement{suffix}": Agreement(model, settings.tile, settings.stride).metric()
            for suffix, model in models.items()
        }
        if settings.label == "real":
            found |= {f"accuracy{suffix}": accuracy(model) for suffix, model in models.items()}
        return {**found, "psnr": psnr_metric()}

    @property
    def _mixes(self) -> bool:
        settings = self.settings
        return settings.label == "real" and (settings.mixup > 0 or settings.cutmix > 0)

    def _mixup(self) -> Any:
        from timm.data import Mixup

        return Mixup(
            mixup_alpha=self.settings.mixup,
            cutmix_alpha=self.settings.cutmix,
            label_smoothing=self.settings.label_smoothing,
            num_classes=IMAGENET_CLASSES,
        )
