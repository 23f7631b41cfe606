"""The figures that the path is judged by: mean average precision of a detector on pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

from mpa_core.tasks import PERCENT, Metric, PathBatch
from mpa_plugin_detection.average_precision import (
    IOU_THRESHOLDS,
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
    """

    def __init__(self, detector: Detector, threshold: float) -> None:
        self.detector = detector
        self.threshold = threshold
        self._known: dict[bytes, Detections] = {}

    def agreement(self, iou: float | None = None) -> Metric:
        """Against what the detector finds on the originals.

        ``iou`` is the threshold of the overlap; None takes the mean over COCO's ten.
        """
        return self._metric("NanoDet, as on the original", self._own_truth, iou)

    def exact(self, iou: float | None = None) -> Metric:
        """Against the boxes in ``batch.targets``; see :class:`Composites`."""
        return self._metric("NanoDet, exact boxes", _exact_truth, iou)

    def _metric(
        self,
        label: str,
        truth: Callable[[PathBatch], list[Detections]],
        iou: float | None,
    ) -> Metric:
        thresholds = IOU_THRESHOLDS if iou is None else (iou,)

        def statistics(x_hat: Tensor, batch: PathBatch) -> Tensor:
            found = [self._detections(picture) for picture in x_hat.clamp(0, 1)]
            pairs = zip(found, truth(batch), strict=True)
            return torch.stack([counts(mine, theirs, thresholds) for mine, theirs in pairs])

        name = "mAP" if iou is None else f"AP{100 * iou:.0f}"
        return Metric(
            statistics,
            higher_is_better=True,
            value=mean_average_precision,
            label=f"{name} ({label})",
            unit=PERCENT,
        )

    def _own_truth(self, batch: PathBatch) -> list[Detections]:
        return [self._detections(picture).above(self.threshold) for picture in batch.images]

    def _detections(self, picture: Tensor) -> Detections:
        content = picture.detach().cpu().contiguous().numpy().tobytes()
        key = hashlib.sha256(repr(tuple(picture.shape)).encode() + content).digest()
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
