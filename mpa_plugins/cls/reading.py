"""How far the classifiers' answers on decoded pictures are from those on the originals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mpa_plugins.cls.classifier import Classifier, tiles

VIEWS = 8
"""Number of views in one pass. Only for so many is kept at a time what their gradients need."""


def reading_loss(
    classifiers: Sequence[Classifier],
    images: Tensor,
    *,
    side: int,
    stride: int,
    temperature: float = 1.0,
) -> Callable[[Tensor], Tensor]:
    """Return the loss of reading decoded pictures: how far the answers are from the originals'.

    The answers are about views over the whole picture, and their distance is the divergence of
    Kullback and Leibler, a mean over views and classifiers: 0 where all answers are the same.

    Args:
        classifiers: frozen.
        images: the originals, [B, 3, H, W] in [0, 1].
        side: side of a view in pixels.
        stride: largest distance between neighbouring views in pixels.
        temperature: divisor of the logits on both sides; the divergence is multiplied by its
            square.

    Returns:
        A function of pictures like ``images``, differentiable, to [B].
    """

    def answers(views: Tensor) -> Tensor:
        logits = [classifier(views) / temperature for classifier in classifiers]
        return torch.stack([each.log_softmax(1) for each in logits])

    def divergence(views: Tensor, wanted: Tensor) -> Tensor:
        apart = F.kl_div(answers(views), wanted, reduction="none", log_target=True)
        return apart.sum(2).mean(0) * temperature**2

    def parts(pictures: Tensor) -> Sequence[Tensor]:
        return torch.cat([tiles(picture, side, stride) for picture in pictures]).split(VIEWS)

    with torch.no_grad():
        wanted = [answers(views) for views in parts(images)]

    def loss(x_hat: Tensor) -> Tensor:
        views = parts(x_hat)
        if len(views) == 1:
            found = divergence(views[0], wanted[0])
        else:
            # Computed again on the way back, which needs memory for one part instead of all.
            found = torch.cat(
                [
                    checkpoint(divergence, *pair, use_reentrant=False, preserve_rng_state=False)
                    for pair in zip(views, wanted, strict=True)
                ]
            )
        return found.view(len(x_hat), -1).mean(1)

    return loss
