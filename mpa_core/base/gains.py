"""Variable rate: tables with one row per quality level, interpolated between levels.

SPEC section 1, "Variable rate". A base codec has ``L`` levels (8 in the paper). Everything that
depends on the quality is a table of ``L`` rows: the four gain vectors and the residual scales of
each transformer block. Rows are used as absolute values; at a real-valued quality ``q = s + l``
with ``0 <= l < 1`` the row is ``|a_s|**(1 - l) * |a_{s+1}|**l``.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from mpa_core.arguments import as_quality
from mpa_core.errors import QualityError


class Quality:
    """The quality of each picture of a batch, checked once and turned into row weights.

    Args:
        value: one number for the whole batch, or a tensor or array of shape ``[B]``; real, from 1
            to ``levels``.
        levels: number of levels ``L`` of the base codec.
        batch: number of pictures ``B``.
        device: device of the tables.

    Raises:
        QualityError: a quality outside ``1 … levels``, or not one per picture.
    """

    def __init__(
        self, value: float | Tensor, *, levels: int, batch: int, device: torch.device | str = "cpu"
    ) -> None:
        if getattr(value, "shape", ()):
            numbers = [as_quality(each, levels) for each in cast(Tensor, value).reshape(-1)]
            if len(numbers) != batch:
                raise QualityError(
                    f"found {len(numbers)} qualities for {batch} pictures; "
                    "pass one number, or one per picture"
                )
        else:
            numbers = [as_quality(value, levels)]
        self.levels = levels
        self.values = numbers * batch if len(numbers) == 1 else numbers
        self.value = torch.tensor(self.values, dtype=torch.float32, device=device)
        low = torch.tensor(numbers, dtype=torch.float64).floor().long().clamp(max=levels)
        fraction = torch.tensor(numbers, dtype=torch.float64) - low
        # One-hot rows: a product with them picks a row exactly, and its gradient is a small matrix
        # product instead of an indexed write.
        eye = torch.eye(levels, dtype=torch.float32, device=device)
        self._low = eye[low.to(device) - 1]
        self._high = self._fraction = None
        if bool((fraction > 0).any()):
            self._high = eye[(low + 1).clamp(max=levels).to(device) - 1]
            self._fraction = fraction.to(device=device, dtype=torch.float32)[:, None]

    def pick(self, table: Tensor) -> Tensor:
        """Return the row of ``table`` ``[L, C]`` for each picture.

        Returns:
            ``[B, C]``, or ``[1, C]`` if all pictures share one quality.
        """
        magnitude = table.abs()
        low = self._low.to(magnitude) @ magnitude
        if self._high is None or self._fraction is None:
            return low
        high = self._high.to(magnitude) @ magnitude
        fraction = self._fraction.to(magnitude)
        return low ** (1 - fraction) * high**fraction


class Gains(nn.Module):
    """A gain and its inverse: per-channel factors before quantization and after it.

    All levels start at 1, as in the paper.

    Args:
        channels: number of channels ``C``.
        levels: number of quality levels ``L``.
    """

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(levels, channels))
        self.inverse_gain = nn.Parameter(torch.ones(levels, channels))

    @torch.no_grad()
    def spread(self, lowest: float, highest: float) -> None:
        """Set the gains to values spread geometrically over the levels, with matching inverses.

        Training need not drive apart levels that start apart, which takes thousands of steps.
        """
        rows = torch.logspace(math.log10(lowest), math.log10(highest), len(self.gain))
        self.gain.copy_(rows[:, None].expand_as(self.gain))
        self.inverse_gain.copy_(1 / self.gain)

    def scale(self, tensor: Tensor, quality: Quality) -> Tensor:
        """Multiply ``[B, C, H, W]`` by the gain, as the encoder does before rounding."""
        return tensor * quality.pick(self.gain)[:, :, None, None]

    def unscale(self, tensor: Tensor, quality: Quality) -> Tensor:
        """Multiply ``[B, C, H, W]`` by the inverse gain, as the decoder does after rounding."""
        return tensor * quality.pick(self.inverse_gain)[:, :, None, None]
