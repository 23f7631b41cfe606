"""Figures of merit for classification: agreement with a classifier's own answer, and accuracy."""

from __future__ import annotations

import torch
from torch import Tensor

from mpa_core.tasks import PERCENT, Metric, PathBatch, picture_digest
from mpa_plugins.cls.classifier import Classifier, tiles

CHUNK = 32
"""Views that one forward pass takes."""


class Agreement:
    """How often a classifier says the same of a reconstruction's view as of the original's.

    Views are tiles over the whole picture. Answers on originals are kept by content, for the same
    picture comes back with every path and quality.
    """

    def __init__(self, classifier: Classifier, side: int, stride: int) -> None:
        self.classifier = classifier
        self.side = side
        self.stride = stride
        self._known: dict[str, Tensor] = {}

    def metric(self) -> Metric:
        """Top-1 agreement; the statistics of a picture are (views that agree, views)."""
        label = f"top-1 agreement ({self.classifier.name})"
        return Metric(self.statistics, higher_is_better=True, label=label, unit=PERCENT)

    def statistics(self, x_hat: Tensor, batch: PathBatch) -> Tensor:
        """[B, 3, H, W] in [0, 1] -> [B, 2]."""
        rows = []
        for original, picture in zip(batch.images, x_hat, strict=True):
            agree = self._wanted(original) == self._answers(picture.clamp(0, 1))
            rows.append((float(agree.sum()), float(agree.numel())))
        return torch.tensor(rows, dtype=torch.float64)

    def _wanted(self, original: Tensor) -> Tensor:
        key = picture_digest(original.detach().cpu().numpy())
        if key not in self._known:
            self._known[key] = self._answers(original)
        return self._known[key]

    @torch.no_grad()
    def _answers(self, picture: Tensor) -> Tensor:
        views = tiles(picture, self.side, self.stride).split(CHUNK)
        return torch.cat([self.classifier(part).argmax(1).cpu() for part in views])


def accuracy(classifier: Classifier) -> Metric:
    """Top-1 accuracy on the usual centre view, against ``targets["label"]`` [B]."""

    def statistics(x_hat: Tensor, batch: PathBatch) -> Tensor:
        logits = classifier(classifier.centre_view(x_hat.clamp(0, 1)))
        return (logits.argmax(1) == batch.targets["label"]).double()

    label = f"top-1 accuracy ({classifier.name})"
    return Metric(statistics, higher_is_better=True, label=label, unit=PERCENT)
