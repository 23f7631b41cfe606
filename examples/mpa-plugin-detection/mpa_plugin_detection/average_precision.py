"""Mean average precision from sums over pictures: counts of detections by class and score.

COCO's definition (101 recalls, IoU thresholds 0.5, 0.55, ..., 0.95, mean over the classes that
occur) but for one thing: detections are ordered by their score to within a bin, not to the last
digit, so that what each picture adds is a list of counts. Then pictures can be drawn again for an
interval. ``tests/test_average_precision.py`` compares it with pycocotools.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou

from mpa_plugin_detection.classes import CLASSES
from mpa_plugin_detection.detector import LOWEST_SCORE, Detections

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""COCO's."""
BINS = 24
"""Bins of scores from :data:`LOWEST_SCORE` to :data:`HIGHEST_SCORE`, all of one width."""
HIGHEST_SCORE = 0.85
"""Scores above it share the last bin; the detector hardly gives any."""
_RECALLS = torch.linspace(0, 1, 101, dtype=torch.float64)


def counts(found: Detections, truth: Detections, thresholds: Sequence[float]) -> Tensor:
    """What one picture adds to the totals.

    Args:
        found: detections on the reconstruction.
        truth: the objects that are there; their scores do not matter.
        thresholds: IoU from which on a detection is of an object.

    Returns:
        [(1 + (1 + len(thresholds)) * BINS) * classes] float64. For each class: its objects, its
        detections by bin of score, and those that are right, by threshold and bin.
    """
    table = torch.zeros(len(CLASSES), 1 + len(thresholds), BINS, dtype=torch.float64)
    objects = torch.bincount(truth.labels, minlength=len(CLASSES)).double()
    for label in found.labels.unique().tolist():
        mine, theirs = found.labels == label, truth.labels == label
        order = found.scores[mine].argsort(descending=True, stable=True)
        place = _bins(found.scores[mine][order])
        overlaps = box_iou(found.boxes[mine][order].double(), truth.boxes[theirs].double())
        table[label, 0] = torch.bincount(place, minlength=BINS)
        for row, threshold in enumerate(thresholds, start=1):
            right = _matched(overlaps, threshold)
            table[label, row] = torch.bincount(place[right], minlength=BINS)
    return torch.cat([objects[:, None], table.flatten(1)], dim=1).flatten()


def mean_average_precision(totals: Tensor) -> float:
    """Sums of :func:`counts` -> mean over thresholds and over the classes that have objects.

    The mean is not a number if there is no object at all.
    """
    per_class = totals.view(len(CLASSES), -1)
    per_class = per_class[per_class[:, 0] > 0]
    objects, table = per_class[:, 0], per_class[:, 1:].unflatten(1, (-1, BINS))
    cumulated = table.flip(-1).cumsum(-1)  # from the highest scores down
    right = cumulated[:, 1:]
    precision = right / cumulated[:, :1].clamp_min(1)
    recall = right / objects[:, None, None]
    # The precision at a recall is the highest one at that recall or a larger one.
    precision = precision.flip(-1).cummax(-1).values.flip(-1)
    place = torch.searchsorted(
        recall.contiguous(), _RECALLS.expand(*recall.shape[:2], -1).contiguous()
    )
    padded = torch.cat([precision, torch.zeros_like(precision[..., :1])], dim=-1)
    return float(padded.gather(-1, place).mean())


def _bins(scores: Tensor) -> Tensor:
    share = (scores.double() - LOWEST_SCORE) / (HIGHEST_SCORE - LOWEST_SCORE)
    return (share * BINS).floor().clamp(0, BINS - 1).long()


def _matched(overlaps: Tensor, threshold: float) -> Tensor:
    """Which detections are of an object: in their order each takes the one that it fits best.

    IoUs [detections, objects] -> [detections] bool. An object is taken once.
    """
    right = torch.zeros(len(overlaps), dtype=torch.bool)
    free = overlaps.clone()
    for index in range(len(overlaps)):
        if not free.shape[1]:
            break
        best = free[index].max(0)
        if best.values >= threshold:
            right[index] = True
            free[:, best.indices] = -1
    return right
