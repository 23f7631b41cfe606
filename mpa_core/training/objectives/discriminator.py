"""The conditional patch discriminator of stage 1b and its two losses (equations 5 and 6).

The form is HiFiC's (Mentzer et al. 2020, arXiv 2006.09965): it judges patches of a picture given
the latents the picture was, or would be, made from. There is one set of weights per quality level,
since the signs of a reconstruction differ from level to level.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from typing_extensions import Self

from mpa_core.training.settings.adversarial import CONTEXT_CHANNELS, WIDTHS

SLOPE = 0.2
"""Slope of the leaky ReLUs below zero."""


class NormedConv(nn.Module):
    """A 4x4 convolution of stride 2, zero-padded, whose weight is divided by its spectral norm.

    The norm's estimate changes in :meth:`iterate_norm` alone, not with every forward pass: so the
    number of calls in a step, or of processes, does not change the results.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 4)
        spectral_norm(self.conv).eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, C', H/2, W/2] for ``x`` [B, C, H, W]."""
        # The norm needs full precision, also where the convolution has less.
        with torch.autocast(x.device.type, enabled=False):
            weight = self.conv.weight
        return F.conv2d(x, weight, self.conv.bias, stride=2, padding=1)

    @torch.no_grad()
    def iterate_norm(self) -> None:
        """Run one power iteration."""
        norm = self.conv.get_submodule("parametrizations.weight")
        norm.train()
        norm()
        norm.eval()

    def train(self, _mode: bool = True) -> Self:
        """Stay in eval mode, as the class describes."""
        return super().train(False)


class PatchDiscriminator(nn.Module):
    """Logits of "this patch is an original" for pictures of one quality level.

    The latents pass a 3x3 convolution and a leaky ReLU, are enlarged (nearest) to the picture's
    size and added to it as further channels; then comes one :class:`NormedConv` with a leaky ReLU
    per width, and a 1x1 convolution to one channel.

    Args:
        latent_channels: M, channels of ``y_hat``.
        widths: channels after each convolution of stride 2.
        context_channels: channels to which the latents are reduced.
    """

    def __init__(self, latent_channels: int, widths: Sequence[int], context_channels: int) -> None:
        super().__init__()
        self.context = nn.Conv2d(latent_channels, context_channels, 3, padding=1)
        inputs = (3 + context_channels, *widths)
        self.layers = nn.ModuleList(NormedConv(a, b) for a, b in pairwise(inputs))
        self.head = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, images: Tensor, y_hat: Tensor) -> Tensor:
        """Return the logits [B, H/s, W/s]; s is 2 to the number of widths.

        ``images`` are [B, 3, H, W] in [0, 1], ``y_hat`` is [B, M, h, w].
        """
        context = F.leaky_relu(self.context(y_hat), SLOPE)
        context = F.interpolate(context, images.shape[-2:], mode="nearest")
        x = torch.cat([images * 2 - 1, context], dim=1)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
        logits: Tensor = self.head(x)
        return logits[:, 0]


class Discriminator(nn.Module):
    """One :class:`PatchDiscriminator` per quality level; each picture goes to its nearest.

    Args:
        latent_channels: M, channels of ``y_hat``.
        levels: number of quality levels L; 1 is one set of weights for every quality.
        widths, context_channels: see :class:`PatchDiscriminator`.

    Attributes:
        by_level: the sets of weights, that of quality 1 first.
    """

    def __init__(
        self,
        latent_channels: int,
        levels: int,
        *,
        widths: Sequence[int] = WIDTHS,
        context_channels: int = CONTEXT_CHANNELS,
    ) -> None:
        super().__init__()
        self.by_level = nn.ModuleList(
            PatchDiscriminator(latent_channels, widths, context_channels) for _ in range(levels)
        )

    def rows(self, quality: Tensor) -> Tensor:
        """Return the nearest row of ``by_level`` [B] for ``quality`` [B]; of two, the higher."""
        return (quality + 0.5).floor().long().clamp(1, len(self.by_level)) - 1

    def forward(self, images: Tensor, y_hat: Tensor, quality: Tensor) -> Tensor:
        """Return the logits [B, H/s, W/s], in the order of ``images``.

        Args:
            images: originals or reconstructions, [B, 3, H, W], nominally in [0, 1].
            y_hat: the latents of each, [B, M, h, w].
            quality: [B], 1 or more.
        """
        rows = self.rows(quality)
        places = [(row, (rows == row).nonzero()[:, 0]) for row in rows.unique().tolist()]
        parts = [self.by_level[row](images[at], y_hat[at]) for row, at in places]
        order = torch.cat([at for _, at in places]).argsort()
        return torch.cat(parts)[order]

    def iterate_norms(self, rows: Iterable[int]) -> None:
        """Run one power iteration for every convolution in these rows of ``by_level``."""
        for row in rows:
            for module in self.by_level[row].modules():
                if isinstance(module, NormedConv):
                    module.iterate_norm()


def generator_loss(fake: Tensor) -> Tensor:
    """Return equation (5), -log D(x_hat, y_hat), as a mean over the patches of each picture.

    Args:
        fake: logits [B, ...] of reconstructions.

    Returns:
        [B], in nats.
    """
    return _cross_entropy(fake, 1.0)


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return equation (6), -log D(x, y_hat) - log(1 - D(x_hat, y_hat)), as means over patches.

    Args:
        real, fake: logits [B, ...] of originals and reconstructions.

    Returns:
        [B], in nats.
    """
    return _cross_entropy(real, 1.0) + _cross_entropy(fake, 0.0)


def _cross_entropy(logits: Tensor, label: float) -> Tensor:
    logits = logits.float()
    wanted = torch.full_like(logits, label)
    losses = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return losses.flatten(1).mean(1)
