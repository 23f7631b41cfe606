"""Likelihoods of symbols, as training sees them and by what the range coder charges for them."""

from __future__ import annotations

import torch
from torch import Tensor

from mpa_core.base.priors import EntropyBottleneck, GaussianConditional
from mpa_core.bitstream.cdf import NIBBLE, PRECISION


def gaussian(residual: Tensor, scales: Tensor, prior: GaussianConditional) -> Tensor:
    """Return the mass of a zero-mean Gaussian in [residual - 1/2, residual + 1/2].

    Differentiable. All tensors have one shape. Scales and result are bounded from below by the
    prior's bounds, as in CompressAI.
    """
    scales = prior.lower_bound_scale(scales)
    magnitude = residual.abs()
    factor = -(0.5**0.5)
    upper = 0.5 * torch.erfc(factor * (0.5 - magnitude) / scales)
    lower = 0.5 * torch.erfc(factor * (-0.5 - magnitude) / scales)
    bounded: Tensor = prior.likelihood_lower_bound(upper - lower)
    return bounded


def coded(
    symbols: Tensor, indexes: Tensor, prior: GaussianConditional | EntropyBottleneck
) -> Tensor:
    """Return ``2**-bits`` for each symbol, with the bits that the range coder spends on it.

    Args:
        symbols: rounded values, any shape.
        indexes: row of ``prior``'s tables for each, int64, same shape.
        prior: a prior with tables.

    A value outside its row is escaped: the row's last interval, then one nibble of raw bits with
    the number of nibbles, then the nibbles (docs/spec/bitstream.md).
    """
    table = prior._quantized_cdf.long()
    last = prior._cdf_length.long()[indexes] - 2
    value = symbols.long() - prior._offset.long()[indexes]
    escaped = (value < 0) | (value >= last)
    start = indexes * table.shape[1] + torch.where(escaped, last, value)
    flat = table.flatten()
    probability = (flat[start + 1] - flat[start]).to(torch.float32) / 2**PRECISION
    if bool(escaped.any()):
        raw = torch.where(value < 0, -2 * value - 1, 2 * (value - last))[escaped]
        # frexp gives the number of binary digits: exact for what float64 holds.
        digits = torch.frexp(raw.double()).exponent
        nibbles = (digits + NIBBLE - 1) // NIBBLE
        probability[escaped] *= torch.exp2(-NIBBLE * (1.0 + nibbles))
    return probability
