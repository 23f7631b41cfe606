"""Settings of the adversarial term of stage 1b (SPEC section 3); light, as all settings are."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mpa_core.config import StrictModel

ADVERSARIAL_WEIGHT = 2.56
"""lambda_G of SPEC section 3: what one nat of the generator's loss L_G costs in units of d."""

DISCRIMINATOR_LR = 1e-4
"""Adam's learning rate of the discriminator (SPEC section 3, stage 1b)."""

WIDTHS = (64, 128, 256, 512)
"""Channels of the discriminator's 4x4 convolutions of stride 2 (SPEC section 3, stage 1b)."""

CONTEXT_CHANNELS = 12
"""Channels the latents are reduced to before they are laid beside the picture (HiFiC)."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Channels = Annotated[int, Field(gt=0)]


class AdversarialSettings(StrictModel):
    """What stage 1b adds to stage 1a: ``weight * L_G`` and a discriminator that learns along.

    Each image's term is divided by ``loss.loss_scale`` as its other terms are.
    """

    weight: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = ADVERSARIAL_WEIGHT
    """lambda_G: weight of the generator's loss."""
    generator_from: Fraction = 0.0
    """Fraction of the budget in which the discriminator learns alone; L_G counts from there."""
    widths: Annotated[tuple[Channels, ...], Field(min_length=1, max_length=5)] = WIDTHS
    """Channels of the convolutions of stride 2, fine to coarse. Half the widths, a quarter of
    the work."""
    context_channels: Channels = CONTEXT_CHANNELS
    per_level: bool = True
    """One set of weights per quality level, as published; false: one for all levels, which in a
    short run sees eight times as many pictures."""
    lr: Positive = DISCRIMINATOR_LR
    """The discriminator's, before the factor of ``schedule``, which holds for it too."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: Positive = 1e-8
