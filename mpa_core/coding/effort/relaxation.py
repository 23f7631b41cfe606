"""Rounding that has a gradient: each symbol is a mixture of its two nearest integers.

Stochastic Gumbel annealing (Yang, Bamler and Mandt, 2020, "Improving Inference for Neural Image
Compression", equation 10), with one change. There, the odds of the two integers follow from their
distances alone. Here they are also those of the entropy model, so that an integer which costs many
bits is hardly ever drawn; without this, the gradients of the rate are dominated by such draws, and
a search of few steps makes low qualities worse instead of better.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mpa_core.base.entropy import EntropyModel
from mpa_core.base.likelihoods import gaussian

_EDGE = 1e-5
"""Distance to an integer below which the odds no longer grow: ``atanh`` ends at 1."""


class Relaxed(NamedTuple):
    """Latents with relaxed symbols."""

    y_hat: Tensor
    """``[B, M, h, w]``, differentiable."""
    bits: Tensor
    """``[B]``, the expected number of bits of ``y``, differentiable."""


class _Choice(NamedTuple):
    """The two integers next to each residual; all tensors have the shape of a step."""

    low: Tensor
    """The lower integer."""
    bits_low: Tensor
    bits_high: Tensor
    log_odds: Tensor
    """Natural logarithm of the odds of the higher integer."""


def relax(
    entropy: EntropyModel,
    y: Tensor,
    params: Tensor,
    temperature: float,
    generator: torch.Generator,
) -> Relaxed:
    """Draw relaxed symbols of ``y`` and predict by them, as decoding does by the real ones.

    Args:
        entropy: the entropy model.
        y: ``[B, M, h, w]``, at the scale of the rounding step.
        params: output of the base's ``hyper_synthesise``.
        temperature: above 0; the nearer to 0, the nearer to rounding.
        generator: source of the noise, on the processor. All pictures of a batch get the same, so
            that a picture's result does not depend on its company.
    """
    bits: list[Tensor] = []

    def visit(step: Any, means: Tensor, scales: Tensor) -> Tensor:
        residual = entropy.take(y, step) - means
        choice = _choose(entropy, residual, scales, temperature)
        shape = (residual.shape[0], 1, *residual.shape[2:])
        uniform = torch.rand(shape, generator=generator).clamp(_EDGE, 1 - _EDGE)
        noise = torch.logit(uniform).to(residual)
        high = torch.sigmoid((choice.log_odds + noise) / temperature)
        expected = torch.lerp(choice.bits_low, choice.bits_high, high)
        bits.append(expected.sum((0, 2, 3, 4)))
        return choice.low + high + means

    y_hat = entropy.walk(params, visit)
    return Relaxed(y_hat, torch.stack(bits).sum(0))


def decide(entropy: EntropyModel, y: Tensor, params: Tensor, temperature: float) -> Tensor:
    """Return the most likely ``y_hat`` of :func:`relax`, ``[B, M, h, w]``.

    Its symbols are integers, so that coding it, in any arithmetic, gives these symbols again.
    """

    def visit(step: Any, means: Tensor, scales: Tensor) -> Tensor:
        choice = _choose(entropy, entropy.take(y, step) - means, scales, temperature)
        return choice.low + (choice.log_odds > 0) + means

    return entropy.walk(params, visit)


def _choose(entropy: EntropyModel, residual: Tensor, scales: Tensor, temperature: float) -> _Choice:
    low = residual.detach().floor()
    bits_low, bits_high = (
        -gaussian(integer, scales, entropy.y_prior).log2() for integer in (low, low + 1)
    )
    above = (residual - low).clamp(_EDGE, 1 - _EDGE)
    by_distance = (torch.atanh(above) - torch.atanh(1 - above)) / temperature
    by_probability = math.log(2) * (bits_low - bits_high).detach()
    return _Choice(low, bits_low, bits_high, by_distance + by_probability)
