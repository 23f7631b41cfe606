"""Intersections and unions of segmentations, and their mean."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = 255
"""Label of pixels that are not counted."""


def upsampled(logits: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Return the logits [B, K, h, w] at the resolution of the mask, [B, K, *size]."""
    if logits.shape[-2:] == tuple(size):
        return logits
    return F.interpolate(logits, tuple(size), mode="bilinear", align_corners=False)


def cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over counted pixels of each picture, [B].

    ``logits`` are [B, K, h, w], ``mask`` has labels [B, H, W].
    """
    losses = F.cross_entropy(
        upsampled(logits, mask.shape[-2:]), mask, ignore_index=IGNORED, reduction="none"
    )
    counted = (mask != IGNORED).flatten(1).sum(1).clamp_min(1)
    return losses.flatten(1).sum(1) / counted


def intersections_and_unions(logits: Tensor, mask: Tensor) -> Tensor:
    """Return pixel counts [B, 2 K]: K intersections, then K unions.

    ``logits`` are [B, K, h, w], ``mask`` has labels [B, H, W].
    """
    classes = logits.shape[1]
    found = upsampled(logits, mask.shape[-2:]).argmax(1)
    rows = []
    for guess, truth in zip(found, mask, strict=True):
        counted = truth != IGNORED
        pairs = truth[counted] * classes + guess[counted]
        table = torch.bincount(pairs, minlength=classes**2).view(classes, classes)
        both = table.diagonal()
        rows.append(torch.cat([both, table.sum(0) + table.sum(1) - both]))
    return torch.stack(rows).double()


def mean_iou(totals: Tensor) -> float:
    """Return the mean of intersection / union over the classes that occur.

    ``totals`` [2 K] are sums of :func:`intersections_and_unions`.
    """
    both, either = totals.chunk(2)
    occurs = either > 0
    return float((both[occurs] / either[occurs]).mean())
