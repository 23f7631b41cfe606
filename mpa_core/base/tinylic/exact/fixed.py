"""Sums that come out the same in any order: fixed-point numbers, carried in float64.

float64 holds every integer up to 2**53. A matrix product whose inputs and weights are multiples of
powers of two, and whose sums cannot leave that range, is therefore exact: threads, vector units,
blocking, fused multiply-adds and the library that computes it change nothing. Everything between
two products is elementwise and made of operations that IEEE 754 rounds correctly (+, -, *, /,
square root, rounding, comparison), one at a time, or of look-ups in tables.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mpa_core.errors import CheckpointError

EXACT_BITS = 53
"""float64 holds every integer of at most this many binary digits."""
_STRIP_BYTES = 16 << 20
"""Bytes of products held at a time; a convolution takes large pictures in strips of rows."""


class FixedFormat(NamedTuple):
    """The rounding of a layer's input and weights."""

    fraction: int
    """Binary digits of the input after the point."""
    magnitude: int
    """The input is clamped to +-2**magnitude."""
    weight: int = 0
    """Binary digits of the weights after the point; 0 for layers without weights to round."""

    @property
    def digits(self) -> int:
        """Number D such that the rounded input, in its smallest step, is within +-2**D."""
        return self.fraction + self.magnitude

    def rounded(self, values: Tensor) -> Tensor:
        """Return ``values`` in steps of 2**-fraction: float64 integers within +-2**digits."""
        limit = 2.0**self.digits
        return torch.mul(values, 2.0**self.fraction).round_().clamp_(-limit, limit)

    def check(self, name: str) -> None:
        """Refuse numbers that no calibration gives, so that shifts by them stay in range.

        Raises:
            CheckpointError: a number is not within +-53; the message names the layer ``name``.
        """
        if not all(-EXACT_BITS < part < EXACT_BITS for part in self):
            raise CheckpointError(
                f"exact profile: the format of {name} is {tuple(self)}, expected numbers within "
                f"+-{EXACT_BITS}; convert the base again with mpa exact"
            )


class FixedLinear:
    """A matrix product on ``[B, C, N]`` columns that is proved exact when it is built.

    Args:
        weight: ``[O, C]`` floating point, rounded here.
        bias: ``[O]``.
        form: format of input and weights.
        name: name of the layer, for messages.
        outputs: for each row of ``weight``, the output that its result is added to later; these
            sums must be exact, too. None: each row is an output.

    Raises:
        CheckpointError: a sum could leave the range in which float64 is exact.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        form: FixedFormat,
        name: str,
        outputs: Tensor | None = None,
    ) -> None:
        form.check(name)
        self.form = form
        scaled = (weight.double() * 2.0**form.weight).round()
        offset = (bias.double() * 2.0 ** (form.weight + form.fraction)).round()
        per_row = scaled.abs().sum(1)
        reach = (
            per_row if outputs is None else torch.zeros_like(offset).index_add_(0, outputs, per_row)
        )
        # Half of the range is left as room for the rounding of this very sum.
        largest = float((reach * 2.0**form.digits + offset.abs()).max())
        if not largest <= 2.0 ** (EXACT_BITS - 1):
            raise CheckpointError(
                f"exact profile: sums of {name} could reach 2**{math.log2(largest):.1f} in format "
                f"{tuple(form)}, float64 is exact up to 2**{EXACT_BITS}; "
                "convert the base again with mpa exact"
            )
        # The scale goes into the weights: it is a power of two, so products stay exact.
        scale = 2.0 ** -(form.weight + form.fraction)
        self.weight, self.bias = scaled * scale, offset * scale

    def product(self, values: Tensor) -> Tensor:
        """Return ``weight @ rounded(values)`` without bias: ``[B, C, N]`` to ``[B, O, N]``."""
        return self.weight @ self.form.rounded(values)

    def __call__(self, values: Tensor) -> Tensor:
        """Apply the layer: ``[B, C, N]`` to ``[B, O, N]``."""
        return self.product(values).add_(self.bias[:, None])


def weight_digits(weight: Tensor, bias: Tensor, fraction: int, magnitude: int) -> int:
    """Return how many binary digits after the point ``weight`` ``[O, ...]`` may have, at most 30.

    With so many digits :class:`FixedLinear` finds its sums exact, rounding included. ``fraction``
    and ``magnitude`` are those of the input's :class:`FixedFormat`.
    """
    reach = weight.double().abs().flatten(1).sum(1) * 2.0**magnitude + bias.double().abs()
    # Rounding moves each weight by half a step at most, which the last -1 covers.
    room = EXACT_BITS - 1 - fraction - math.ceil(math.log2(max(float(reach.max()), 2.0**-40))) - 1
    return min(room, 30)


class FixedConv:
    """A convolution, plain or transposed: one exact product, then exact sums of shifted maps.

    Args:
        weight: ``[O, C, k, k]`` of a convolution of stride 1 with padding k // 2, or, if ``stride``
            is 2, ``[C, O, k, k]`` of a transposed one with output padding 1.
        bias: ``[O]``.
        form, name: as :class:`FixedLinear`.
        stride: factor between the sizes of output and input, 1 or 2.

    Raises:
        CheckpointError: a sum could leave the range in which float64 is exact.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, form: FixedFormat, name: str, stride: int = 1
    ) -> None:
        self.stride, self.kernel = stride, weight.shape[-1]
        # A convolution equals scattering each input by the mirrored kernel.
        plain = stride == 1
        taps = weight.flip(2, 3).permute(0, 2, 3, 1) if plain else weight.permute(1, 2, 3, 0)
        self.channels = taps.shape[0]
        outputs = torch.arange(self.channels, device=weight.device)
        self.linear = FixedLinear(
            taps.reshape(-1, taps.shape[3]),
            bias,
            form,
            name,
            outputs.repeat_interleave(self.kernel**2),
        )

    def __call__(self, values: Tensor) -> Tensor:
        """Apply the layer: ``[B, C, H, W]`` to ``[B, O, H * stride, W * stride]``."""
        batch, _, height, width = values.shape
        if self.kernel == 1:
            return self.linear(values.flatten(2)).unflatten(2, (height, width))
        stride, reach = self.stride, self.kernel // 2
        per_row = batch * len(self.linear.weight) * width * values.element_size()
        rows = max(1, _STRIP_BYTES // per_row)
        wide = stride * width
        # With its border; strips overlap in it, and adding up exact sums is exact.
        out = values.new_zeros(batch, self.channels, stride * height + 2 * reach, wide)
        for top in range(0, height, rows):
            strip = values[:, :, top : top + rows]
            high = stride * (strip.shape[2] - 1) + self.kernel
            added = F.fold(
                self.linear.product(strip.flatten(2)),
                (high, wide),
                self.kernel,
                padding=(0, reach),
                stride=stride,
            )
            out[:, :, stride * top : stride * top + high] += added
        out = out[:, :, reach : reach + stride * height]
        return out.add_(self.linear.bias[:, None, None])
