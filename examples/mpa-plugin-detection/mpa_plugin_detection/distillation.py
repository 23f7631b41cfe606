"""How far a detector's predictions on a reconstruction are from those on the original."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from mpa_plugin_detection.nanodet import Predictions

LEAST_MASS = 1.0
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

    The first two are sums over anchor points, divided by the sum of the originals' highest scores:
    by how many points see an object, more or less. The weight of a point in ``boxes`` is its
    highest score. This is localisation distillation (Zheng et al., CVPR 2022) with the detector as
    its own teacher.
    """
    scores = wanted.logits.sigmoid()
    objects = scores.amax(-1)
    mass = objects.sum(-1).clamp_min(LEAST_MASS)
    cross = F.binary_cross_entropy_with_logits(found.logits, scores, reduction="none")
    entropy = F.binary_cross_entropy_with_logits(wanted.logits, scores, reduction="none")
    classes = (cross - entropy).sum((1, 2)) / mass
    target = wanted.sides.log_softmax(-1)
    divergence = F.kl_div(
        found.sides.log_softmax(-1), target, reduction="none", log_target=True
    ).sum((2, 3))
    boxes = (divergence * objects).sum(-1) / mass
    features = sum(
        (a - b).square().mean((1, 2, 3)) / b.square().mean((1, 2, 3))
        for a, b in zip(found.features, wanted.features, strict=True)
    )
    assert isinstance(features, Tensor)
    return Terms(classes, boxes, features / len(wanted.features))
