"""Metrics for classification: agreement with a classifier's own answer, and accuracy."""

from __future__ import annotations

import torch
from torch import Tensor

from mpa_core.tasks import PERCENT, Metric, PathBatch, picture_digest
from mpa_plugins.cls.classifier import Classifier, tiles

CHUNK = 32
"""Number of views in one forward pass."""


class Agreement:
    """The share of a reconstruction's views that a classifier answers as it does the original's.

    Views are tiles over the whole picture. Answers on originals are kept by content, since the same
    picture is measured with every path and quality.

    Args:
        classifier: the classifier.
        side: side of a view in pixels.
        stride: largest distance between neighbouring views in pixels.
    """

    def __init__(self, classifier: Classifier, side: int, stride: int) -> None:
        self.classifier = classifier
        self.side = side
        self.stride = stride
        self._known: dict[str, Tensor] = {}

    def metric(self) -> Metric:
        """Return the metric of top-1 agreement.

        The statistics of a picture are (number of views that agree, number of views).
        """
        label = f"top-1 agreement ({self.classifier.name})"
        return Metric(self.statistics, higher_is_better=True, label=label, unit=PERCENT)

    def statistics(self, x_hat: Tensor, batch: PathBatch) -> Tensor:
        """Return the statistics [B, 2] for ``x_hat`` [B, 3, H, W] in [0, 1]."""
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
    """Return the metric of top-1 accuracy on the usual centre view.

    The labels are ``targets["label"]`` [B].
    """

    def statistics(x_hat: Tensor, batch: PathBatch) -> Tensor:
        logits = classifier(classifier.centre_view(x_hat.clamp(0, 1)))
        return (logits.argmax(1) == batch.targets["label"]).double()

    label = f"top-1 accuracy ({classifier.name})"
    return Metric(statistics, higher_is_better=True, label=label, unit=PERCENT)
