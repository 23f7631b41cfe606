"""Equation (7) of the paper without its adversarial term: rate, distortion, perception, ratio."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from mpa_core.errors import ConfigError
from mpa_core.tasks.metric import squared_error_255
from mpa_core.tasks.perceptual import PerceptualDistance, ShiftedResize, build_distance
from mpa_core.training.settings.base import LossSettings

LOSS_SCALE_POWERS = {"paper": 0.0, "sqrt_rate": 0.5, "rate": 1.0}


class RateTable(nn.Module):
    """The weight lambda_r as a function of a real-valued quality (SPEC section 3).

    Levels have the table's values; between two levels the weights are interpolated geometrically,
    as the codec's gains are.
    """

    logs: Tensor

    def __init__(self, lambdas: Sequence[float]) -> None:
        super().__init__()
        logs = torch.tensor([math.log(value) for value in lambdas], dtype=torch.float32)
        self.register_buffer("logs", logs, persistent=False)
        self.log_mean = float(logs.mean())

    def forward(self, quality: Tensor) -> Tensor:
        """Return lambda_r [B] for ``quality`` [B], from 1 to the number of levels."""
        return self._log(quality).exp()

    def scale(self, quality: Tensor, power: float) -> Tensor:
        """Return the divisor of losses, ``(lambda_r(q) / geometric mean of the table) ** power``.

        ``quality`` and the result are [B].
        """
        return (power * (self._log(quality) - self.log_mean)).exp()

    def _log(self, quality: Tensor) -> Tensor:
        position = quality.to(self.logs) - 1
        low = position.floor().clamp(0, len(self.logs) - 2).long()
        return torch.lerp(self.logs[low], self.logs[low + 1], position - low)


def bits_per_pixel(likelihoods: Mapping[str, Tensor], pixels: int) -> Tensor:
    """Return the estimated bits per pixel [B] of each image.

    Args:
        likelihoods: likelihoods of its symbols, tensors [B, ...] in (0, 1], by name.
        pixels: height * width of the images.
    """
    bits = [-torch.log2(value).flatten(1).sum(1) for value in likelihoods.values()]
    return torch.stack(bits).sum(0) / pixels


def psnr_from_mse(mse: float) -> float:
    """Return the PSNR in dB of a mean squared error on the 0-255 scale; infinite for 0."""
    return math.inf if mse <= 0 else 10 * math.log10(255.0**2 / mse)


@dataclass(frozen=True)
class LossTerms:
    """The loss of a batch and its terms; all but ``total`` are detached."""

    total: Tensor
    """The scalar to differentiate."""
    bpp: Tensor
    """[B], estimated bits per pixel."""
    mse: Tensor
    """[B], on the 0-255 scale."""
    perceptual: Tensor
    """Scalar; 0 while the term is off."""
    ratio: Tensor
    """Scalar, equation (4)."""
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    """Scalars of other terms in ``total``, to be logged."""


def loss_distance(settings: LossSettings) -> PerceptualDistance | None:
    """Build the perceptual distance that the settings ask for; None if they ask for none.

    Raises:
        ConfigError, MissingDependencyError: as :func:`build_distance`; or a Wasserstein weight is
            set without a distance.
    """
    if settings.perceptual is None:
        if settings.wasserstein_weight > 0:
            raise ConfigError(
                f"loss.wasserstein_weight is {settings.wasserstein_weight:g} and loss.perceptual "
                "is null, so there are no features to compare; name a distance, or set it to 0"
            )
        return None
    return build_distance(settings.perceptual, wasserstein_weight=settings.wasserstein_weight)


Settings = TypeVar("Settings", bound=LossSettings)


class ImageLoss(nn.Module, Generic[Settings]):
    """The common part of the losses of all stages: each image's scale, and perception.

    Args:
        settings: weights.
        distance: the perceptual distance, or None.
        shards: number of parts of a batch, each of which is passed alone.
    """

    def __init__(
        self,
        settings: Settings,
        distance: PerceptualDistance | None = None,
        *,
        shards: int = 1,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.rate = RateTable(settings.rate_lambdas)
        self.power = LOSS_SCALE_POWERS[settings.loss_scale]
        self.distance = distance
        self.shift = ShiftedResize(settings.perceptual_shift)
        self.weight = settings.perceptual_weight
        images = settings.perceptual_images
        self.images = None if images is None else max(1, images // shards)

    def scale(self, quality: Tensor) -> Tensor:
        """Return the divisor [B] of the terms of images at ``quality`` [B]."""
        return self.rate.scale(quality, self.power)

    def perception(self, x: Tensor, x_hat: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted term and, detached, its mean distance: scalars.

        Both are 0 without a distance. ``x`` and ``x_hat`` are [B, 3, H, W], ``scale`` is [B].
        """
        if self.distance is None:
            zero = torch.zeros((), device=x.device)
            return zero, zero
        count = min(self.images or len(x), len(x))
        distances = self.distance(*self.shift(x[:count], x_hat[:count]))
        return self.weight * (distances / scale[:count]).mean(), distances.detach().mean()


class RateDistortionLoss(ImageLoss[LossSettings]):
    """Equation (7): lambda_r(q) * r + d + lambda_perc * perceptual + lambda_ratio * ratio.

    The terms are means over images; the adversarial term is not included.
    """

    def forward(
        self,
        x: Tensor,
        x_hat: Tensor,
        likelihoods: Mapping[str, Tensor],
        quality: Tensor,
        ratio_loss: Tensor,
        *,
        perceptual: bool = True,
    ) -> LossTerms:
        """Return the terms of equation (7) for a batch.

        Args:
            x, x_hat: original and reconstruction [B, 3, H, W], nominally in [0, 1].
            likelihoods: likelihoods of the symbols of each image, [B, ...].
            quality: [B], from 1 to the number of levels.
            ratio_loss: scalar, equation (4) of the encoder's masks.
            perceptual: whether the perceptual term counts now.
        """
        settings = self.settings
        bpp = bits_per_pixel(likelihoods, x.shape[-2] * x.shape[-1])
        mse = squared_error_255(x, x_hat)
        per_image = self.rate(quality) * bpp + mse / settings.distortion_scale
        scale = self.scale(quality)
        total = (per_image / scale).mean() + settings.ratio_weight * ratio_loss
        seen = torch.zeros((), device=x.device)
        if perceptual:
            term, seen = self.perception(x, x_hat, scale)
            total = total + term
        return LossTerms(total, bpp.detach(), mse.detach(), seen, ratio_loss.detach())
