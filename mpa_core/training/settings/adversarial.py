"""Settings of the adversarial term of stage 1b (SPEC section 3); imports no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mpa_core.config import StrictModel

ADVERSARIAL_WEIGHT = 2.56
"""lambda_G of SPEC section 3: the weight of one nat of the generator's loss L_G in units of d."""

DISCRIMINATOR_LR = 1e-4
"""Adam's learning rate for the discriminator (SPEC section 3, stage 1b)."""

WIDTHS = (64, 128, 256, 512)
"""Channels of the discriminator's 4x4 convolutions of stride 2 (SPEC section 3, stage 1b)."""

CONTEXT_CHANNELS = 12
"""Channels to which the latents are reduced before they are added to the picture (HiFiC)."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Channels = Annotated[int, Field(gt=0)]


class AdversarialSettings(StrictModel):
    """The addition of stage 1b to stage 1a: ``weight * L_G``, and a discriminator.

    Each image's term is divided by ``loss.loss_scale`` as its other terms are.
    """

    weight: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = ADVERSARIAL_WEIGHT
    """lambda_G: weight of the generator's loss."""
    generator_from: Fraction = 0.0
    """Fraction of the budget in which the discriminator learns alone; L_G counts from there on."""
    widths: Annotated[tuple[Channels, ...], Field(min_length=1, max_length=5)] = WIDTHS
    """Channels of the convolutions of stride 2, fine to coarse. Half the widths take a quarter of
    the work."""
    context_channels: Channels = CONTEXT_CHANNELS
    per_level: bool = True
    """True for one set of weights per quality level, as published; false for one set for all
    levels, which in a short run sees eight times as many pictures."""
    lr: Positive = DISCRIMINATOR_LR
    """The discriminator's learning rate, before the factor of ``schedule``, which applies to it,
    too."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: Positive = 1e-8
