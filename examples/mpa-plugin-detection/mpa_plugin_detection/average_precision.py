"""Mean average precision from sums over pictures: counts of detections by class and score.

COCO's definition (101 recalls, IoU thresholds 0.5, 0.55, ..., 0.95, mean over the classes that
occur) but for one thing: detections are ordered by their score to within a bin, not to the last
digit, so that what each picture adds is a list of counts. Then pictures can be drawn again for an
interval. It makes the figure up to two points lower, for all codecs alike;
``tests/test_average_precision.py`` compares it with pycocotools.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mpa_plugin_detection.detector import LOWEST_SCORE, Detections

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""COCO's."""
BINS = 48
"""Bins of scores from :data:`LOWEST_SCORE` to :data:`HIGHEST_SCORE`, all of one width."""
HIGHEST_SCORE = 0.85
"""Scores above it share the last bin; the detector hardly gives any."""
_RECALLS = torch.linspace(0, 1, 101, dtype=torch.float64)


def counts(
    found: Detections,
    truth: Detections,
    classes: Sequence[int],
    thresholds: Sequence[float] = IOU_THRESHOLDS,
) -> Tensor:
    """What one picture adds to the totals.

    Args:
        found: detections on the reconstruction.
        truth: the objects that are there; their scores do not matter.
        classes: the labels that count, each once.
        thresholds: IoU from which on a detection is of an object.

    Returns:
        [len(classes) * (1 + (1 + len(thresholds)) * BINS)] float64. For each class: its objects,
        its detections by bin of score, and those that are right, by threshold and bin.
    """
    rows = [_row(found.of(label), truth.of(label), thresholds) for label in classes]
    return torch.cat(rows)


def mean_average_precision(totals: Tensor) -> float:
    """Sums of :func:`counts` at COCO's ten thresholds -> the mean over them and over classes.

    Classes without an object do not count; it is not a number if there is no object at all.
    """
    return _mean_of_precisions(totals, len(IOU_THRESHOLDS))


def average_precision_50(totals: Tensor) -> float:
    """Sums of :func:`counts` at the one threshold 0.5 -> the mean over classes, as above."""
    return _mean_of_precisions(totals, 1)


def _row(found: Detections, truth: Detections, thresholds: Sequence[float]) -> Tensor:
    from torchvision.ops import box_iou

    place = _bins(found.scores)
    overlaps = box_iou(found.boxes.double(), truth.boxes.double())
    places = [place, *(place[_matched(overlaps, threshold)] for threshold in thresholds)]
    table = [torch.bincount(some, minlength=BINS) for some in places]
    return torch.cat([torch.tensor([len(truth.labels)]), *table]).double()


def _mean_of_precisions(totals: Tensor, thresholds: int) -> float:
    per_class = totals.view(-1, 1 + (1 + thresholds) * BINS)
    per_class = per_class[per_class[:, 0] > 0]
    objects, table = per_class[:, 0], per_class[:, 1:].reshape(-1, 1 + thresholds, BINS)
    cumulated = table.flip(-1).cumsum(-1)  # from the highest scores down
    right = cumulated[:, 1:]
    precision = right / cumulated[:, :1].clamp_min(1)
    recall = (right / objects[:, None, None]).contiguous()
    # The precision at a recall is the highest one at that recall or a larger one.
    precision = precision.flip(-1).cummax(-1).values.flip(-1)
    place = torch.searchsorted(recall, _RECALLS.expand(*recall.shape[:2], -1).contiguous())
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
    if not free.shape[1]:
        return right
    for index in range(len(overlaps)):
        best = free[index].max(0)
        if best.values >= threshold:
            right[index] = True
            free[:, best.indices] = -1
    return right
