"""The networks of the context model, which predict symbols from those decoded before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mpa_core.base.tinylic.schedule import Step, context_mask


class ContextNetworks(Protocol):
    """The networks that the entropy model's walk runs.

    The entropy model's own compute in floating point;
    :class:`mpa_core.base.tinylic.exact.networks.ExactNetworks` computes the same everywhere.
    """

    def channel_context(self, index: int, known: Tensor) -> Tensor:
        """Return the channel context ``[B, 2c, H, W]`` of slice ``index``.

        ``known`` ``[B, C, H, W]`` are the entropy parameters and the decoded slices.
        """

    def spatial_context(self, step: int, known: Tensor) -> Tensor:
        """Return the spatial context ``[P, B, 2c, H/2, W/2]`` of step number ``step``.

        ``known`` ``[B, c, H, W]`` is its slice, with zeros where nothing is decoded yet.
        """

    def predict(self, index: int, features: Tensor) -> Tensor:
        """Return the scales, then the means, of slice ``index``: ``[B, 2c, h, w]``.

        ``features`` ``[B, C, h, w]`` are the contexts.
        """


class ChannelContext(nn.Sequential):
    """Context of a slice from the decoded slices and the hyperprior: conv5, conv5, conv3."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, channels, 5, padding=2),
            nn.GELU(),
            nn.Conv2d(channels, channels, 5, padding=2),
            nn.GELU(),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
        )


class SpatialContext(nn.Module):
    """A masked convolution over the known positions of a slice, evaluated at the step's phases."""

    mask: Tensor

    def __init__(self, channels: int, step: Step, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, kernel, padding=kernel // 2)
        self.phases, self.kernel = step.phases, kernel
        self.register_buffer("mask", context_mask(step, kernel), persistent=False)

    def forward(self, known: Tensor) -> Tensor:
        """Return ``[P, B, 2c, H/2, W/2]`` for ``known`` ``[B, c, H, W]``, zero where undecoded."""
        weight = self.conv.weight * self.mask
        reach = self.kernel // 2
        padded = F.pad(known, (reach, reach, reach, reach))
        # A stride-2 convolution from the right corner computes one phase and nothing else.
        return torch.stack(
            [
                F.conv2d(padded[..., row:, column:], weight, self.conv.bias, stride=2)[
                    ..., : known.shape[-2] // 2, : known.shape[-1] // 2
                ]
                for row, column in self.phases
            ]
        )


class ParameterNet(nn.Sequential):
    """Three 1x1 convolutions that predict the scales and means of a slice."""

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        first, second, out = widths
        super().__init__(
            nn.Conv2d(in_channels, first, 1),
            nn.GELU(),
            nn.Conv2d(first, second, 1),
            nn.GELU(),
            nn.Conv2d(second, out, 1),
        )
