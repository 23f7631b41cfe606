"""A frozen detector on pictures of any size: its raw predictions, and the boxes that it finds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpa_plugin_detection.nanodet import (
    STRIDES,
    Predictions,
    anchor_points,
    boxes_of,
    load_nanodet,
)

LOWEST_SCORE = 0.05
"""Detections below it are left out, as NanoDet's own evaluation does."""
NMS_IOU = 0.6
"""Of two boxes of one class that overlap by more, the one with the lower score is left out."""
MOST = 100
"""Largest number of detections in a picture, COCO's."""


@dataclass(frozen=True)
class Detections:
    """Objects in one picture, those with the highest scores first."""

    boxes: Tensor
    """[N, 4]: left, top, right and bottom in pixels."""
    scores: Tensor
    """[N], in [0, 1]; 1 for exact ones."""
    labels: Tensor
    """[N] int64, indices of :data:`mpa_plugin_detection.classes.CLASSES`."""

    def above(self, score: float) -> Detections:
        """Those with at least that score."""
        return self._where(self.scores >= score)

    def of(self, label: int) -> Detections:
        """Those of one class."""
        return self._where(self.labels == label)

    def _where(self, kept: Tensor) -> Detections:
        return Detections(self.boxes[kept], self.scores[kept], self.labels[kept])


class Detector(nn.Module):
    """NanoDet on pictures at their own resolution, in eval mode whatever its parent does."""

    def __init__(self) -> None:
        super().__init__()
        self.net = load_nanodet()

    def train(self, _mode: bool = True) -> Detector:
        """Stay in eval mode."""
        return super().train(False)

    def forward(self, x: Tensor) -> Predictions:
        """Pictures [B, 3, H, W], RGB, nominally in [0, 1]; differentiable."""
        return self.net(_fitted(x))

    @torch.no_grad()
    def detect(self, x: Tensor) -> list[Detections]:
        """The objects in each of the pictures [B, 3, H, W], on the CPU, after suppression."""
        height, width = x.shape[-2:]
        fitted = _fitted(x)
        inner_height, inner_width = fitted.shape[-2:]
        found = self.net(fitted)
        boxes = boxes_of(found.sides, anchor_points(inner_height, inner_width, x.device))
        scale = torch.tensor([width / inner_width, height / inner_height] * 2)
        border = torch.tensor([width, height] * 2)
        boxes = (boxes.cpu() * scale).clamp(min=torch.zeros(4), max=border)
        scores = found.logits.sigmoid().cpu()
        return [_suppressed(*pair) for pair in zip(boxes, scores, strict=True)]


def _suppressed(boxes: Tensor, scores: Tensor) -> Detections:
    """Boxes [N, 4] and scores [N, classes] -> the detections that remain."""
    # Here and in average_precision.py, since a file for the detector is made without torchvision.
    from torchvision.ops import batched_nms

    point, label = (scores >= LOWEST_SCORE).nonzero(as_tuple=True)
    boxes, scores = boxes[point], scores[point, label]
    kept = batched_nms(boxes, scores, label, NMS_IOU)[:MOST]
    return Detections(boxes[kept], scores[kept], label[kept])


def _fitted(x: Tensor) -> Tensor:
    """[B, 3, H, W] -> the same with sides that are multiples of the largest stride."""
    stride = STRIDES[-1]
    height, width = (max(1, round(side / stride)) * stride for side in x.shape[-2:])
    if x.shape[-2:] == (height, width):
        return x
    return F.interpolate(x, (height, width), mode="bilinear", antialias=True, align_corners=False)
