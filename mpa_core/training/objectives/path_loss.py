"""Equations (8) and (9): task, distortion, perception and mask ratio; the rate is constant."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mpa_core.tasks.metric import squared_error_255
from mpa_core.training.objectives.losses import ImageLoss
from mpa_core.training.settings.path import PathLossSettings


@dataclass(frozen=True)
class PathTerms:
    """The loss of a batch and its terms; all but ``total`` are detached."""

    total: Tensor
    """The scalar to differentiate."""
    task: Tensor
    """Scalar, before its weight."""
    mse: Tensor
    """[B], on the 0-255 scale."""
    perceptual: Tensor
    """Scalar; 0 while the term is off."""
    ratio: Tensor
    """Scalar, equation (4)."""


class PathLoss(ImageLoss[PathLossSettings]):
    """task_weight * L_task + distortion_weight * d + 4.26 * perceptual + 10 * ratio.

    The weights of perceptual and ratio are the settings' defaults. Terms per image are divided as
    ``loss_scale`` says and averaged; a recipe's scalar is not.
    """

    def forward(
        self,
        x: Tensor,
        x_hat: Tensor,
        task: Tensor,
        quality: Tensor,
        ratio_loss: Tensor,
        *,
        perceptual: bool = True,
    ) -> PathTerms:
        """Return the terms for a batch.

        Args:
            x, x_hat: original and reconstruction [B, 3, H, W], nominally in [0, 1].
            task: the recipe's loss, a scalar or [B].
            quality: [B], from 1 to the number of levels.
            ratio_loss: scalar, equation (4) of the path's masks.
            perceptual: whether the perceptual term counts now.
        """
        settings = self.settings
        scale = self.scale(quality)
        mse = squared_error_255(x, x_hat)
        per_image = settings.distortion_weight * mse / settings.distortion_scale
        total = settings.ratio_weight * ratio_loss
        if task.ndim:
            per_image = per_image + settings.task_weight * task
        else:
            total = total + settings.task_weight * task
        total = total + (per_image / scale).mean()
        seen = torch.zeros((), device=x.device)
        if perceptual:
            term, seen = self.perception(x, x_hat, scale)
            total = total + term
        return PathTerms(total, task.detach().mean(), mse.detach(), seen, ratio_loss.detach())
