"""Intersections and unions, and their mean."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = 255
"""Label of pixels that do not count."""


def upsampled(logits: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Logits [B, K, h, w] at the resolution of the mask, [B, K, *size]."""
    if logits.shape[-2:] == tuple(size):
        return logits
    return F.interpolate(logits, tuple(size), mode="bilinear", align_corners=False)


def cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """[B, K, h, w] and labels [B, H, W] -> mean over counted pixels of each picture, [B]."""
    losses = F.cross_entropy(
        upsampled(logits, mask.shape[-2:]), mask, ignore_index=IGNORED, reduction="none"
    )
    counted = (mask != IGNORED).flatten(1).sum(1).clamp_min(1)
    return losses.flatten(1).sum(1) / counted


def intersections_and_unions(logits: Tensor, mask: Tensor) -> Tensor:
    """[B, K, h, w] and labels [B, H, W] -> pixel counts [B, 2 K]: K intersections, K unions."""
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
    """Sums of the above [2 K] -> mean over the classes that occur of intersection / union."""
    both, either = totals.chunk(2)
    occurs = either > 0
    return float((both[occurs] / either[occurs]).mean())
