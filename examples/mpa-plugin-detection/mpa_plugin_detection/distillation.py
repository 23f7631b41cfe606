"""How far a detector's predictions on a reconstruction are from those on the original."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mpa_plugin_detection.nanodet import Predictions

LEAST_WEIGHT = 1.0
"""A picture without objects counts as one with a single anchor point that is sure of one."""


@dataclass(frozen=True)
class Terms:
    """The parts of the loss, [B] each, 0 for equal predictions."""

    classes: Tensor
    """Kullback-Leibler divergence of the scores, each a share of its own."""
    boxes: Tensor
    """That of the distributions of the sides, where there are objects."""
    features: Tensor
    """Squared difference of the features, relative to the original's."""


def distil(found: Predictions, wanted: Predictions) -> Terms:
    """The terms for the predictions on reconstructions, ``wanted`` being those on originals.

    The first two are means over anchor points, weighted by the square of the highest score that
    either picture has there: they are about things that are lost or made up and not about the
    many points at which next to nothing is seen. The weight of a point in ``boxes`` is that of the
    original alone. This is localisation distillation (Zheng et al., CVPR 2022) with the detector
    as its own teacher.
    """
    scores = wanted.logits.sigmoid()
    there = scores.amax(-1).square()
    either = torch.maximum(there, found.logits.detach().sigmoid().amax(-1).square())
    cross = F.binary_cross_entropy_with_logits(found.logits, scores, reduction="none")
    entropy = F.binary_cross_entropy_with_logits(wanted.logits, scores, reduction="none")
    classes = _weighted_mean((cross - entropy).sum(-1), either)
    divergence = F.kl_div(
        found.sides.log_softmax(-1),
        wanted.sides.log_softmax(-1),
        reduction="none",
        log_target=True,
    )
    boxes = _weighted_mean(divergence.sum((2, 3)), there)
    features = sum(
        (a - b).square().mean((1, 2, 3)) / b.square().mean((1, 2, 3))
        for a, b in zip(found.features, wanted.features, strict=True)
    )
    assert isinstance(features, Tensor)
    return Terms(classes, boxes, features / len(wanted.features))


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """[B, N] twice -> [B]."""
    return (values * weights).sum(-1) / weights.sum(-1).clamp_min(LEAST_WEIGHT)
