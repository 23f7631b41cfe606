"""The figures that the path is judged by: mean average precision of a detector on pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mpa_core.tasks import PERCENT, Metric, PathBatch, picture_digest
from mpa_plugin_detection.average_precision import (
    IOU_THRESHOLDS,
    average_precision_50,
    counts,
    mean_average_precision,
)
from mpa_plugin_detection.detector import Detections, Detector

KEPT = 512
"""Detections in so many pictures are kept: each comes back with every metric and path."""


class Judge:
    """A detector on reconstructions, beside the truth about the originals.

    Args:
        detector: frozen.
        threshold: score from which on what it finds on an original is taken for true.
        classes: the labels that count.
    """

    def __init__(self, detector: Detector, threshold: float, classes: Sequence[int]) -> None:
        self.detector = detector
        self.threshold = threshold
        self.classes = classes
        self._known: dict[str, Detections] = {}

    def agreement(self) -> dict[str, Metric]:
        """``map`` and ``map50``: against what the detector finds on the originals."""
        return self._metrics("", "NanoDet, as on the original", self._own_truth)

    def exact(self) -> dict[str, Metric]:
        """``map_exact`` and ``map50_exact``: against ``batch.targets``; see :class:`Composites`."""
        return self._metrics("_exact", "NanoDet, exact boxes", _exact_truth)

    def _metrics(
        self, suffix: str, judge: str, truth: Callable[[PathBatch], list[Detections]]
    ) -> dict[str, Metric]:
        kinds = (
            ("map", "mAP", IOU_THRESHOLDS, mean_average_precision),
            ("map50", "AP50", (0.5,), average_precision_50),
        )
        return {
            f"{name}{suffix}": Metric(
                statistics=self._counting(truth, thresholds),
                higher_is_better=True,
                value=value,
                label=f"{title} ({judge})",
                unit=PERCENT,
            )
            for name, title, thresholds, value in kinds
        }

    def _counting(
        self, truth: Callable[[PathBatch], list[Detections]], thresholds: Sequence[float]
    ) -> Callable[[Tensor, PathBatch], Tensor]:
        def statistics(x_hat: Tensor, batch: PathBatch) -> Tensor:
            found = [self._detections(picture) for picture in x_hat.clamp(0, 1)]
            return torch.stack(
                [
                    counts(mine, theirs, self.classes, thresholds)
                    for mine, theirs in zip(found, truth(batch), strict=True)
                ]
            )

        return statistics

    def _own_truth(self, batch: PathBatch) -> list[Detections]:
        return [self._detections(picture).above(self.threshold) for picture in batch.images]

    def _detections(self, picture: Tensor) -> Detections:
        key = picture_digest(picture.detach().cpu().numpy())
        if key not in self._known:
            if len(self._known) >= KEPT:
                del self._known[next(iter(self._known))]
            self._known[key] = self.detector.detect(picture[None])[0]
        return self._known[key]


def _exact_truth(batch: PathBatch) -> list[Detections]:
    return [
        Detections(boxes[labels >= 0], torch.ones(int((labels >= 0).sum())), labels[labels >= 0])
        for boxes, labels in zip(
            batch.targets["boxes"].cpu(), batch.targets["labels"].cpu(), strict=True
        )
    ]
