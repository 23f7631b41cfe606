"""The addition of stage 1b to stage 1a: a discriminator that trains along, and its loss term."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mpa_core.tasks.seeds import Stream, torch_seed
from mpa_core.training.engine.optim import Trained, adam
from mpa_core.training.engine.parallel import run_forward
from mpa_core.training.objectives.discriminator import (
    Discriminator,
    discriminator_loss,
    generator_loss,
)
from mpa_core.training.objectives.losses import LossTerms
from mpa_core.training.settings.adversarial import AdversarialSettings
from mpa_core.training.settings.base import OptimSettings, TrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

NAME = "discriminator"
"""Name of its optimiser, and beginning of the names of its tensors in the state."""


class Adversary:
    """A discriminator, its optimiser, and the two losses between it and the codec.

    It sees the latents without passing gradients to them. Making it seeds torch.

    Args:
        settings: settings of the adversarial term.
        config: settings of the run.
        accelerator: the processes.
    """

    def __init__(
        self, settings: AdversarialSettings, config: TrainConfig, accelerator: Accelerator
    ) -> None:
        self.settings = settings
        self.accelerator = accelerator
        torch.manual_seed(torch_seed(config.seed, Stream.DISCRIMINATOR))
        self.discriminator = Discriminator(
            config.model.latent_channels,
            config.model.quality_levels if settings.per_level else 1,
            widths=settings.widths,
            context_channels=settings.context_channels,
        ).to(accelerator.device)
        parameters = dict(self.discriminator.named_parameters())
        optim = OptimSettings(lr=settings.lr, betas=settings.betas, eps=settings.eps)
        self.trained = Trained(NAME, adam(parameters, optim), parameters, clip=None)

    def add_term(
        self,
        terms: LossTerms,
        out: Mapping[str, Any],
        quality: Tensor,
        scale: Tensor,
        fraction: float,
    ) -> LossTerms:
        """Add ``weight * L_G`` to the codec's ``terms``; L_G is logged as ``generator``.

        Args:
            terms: the terms of stage 1a.
            out: output of the model.
            quality: [B], from 1 to the number of levels.
            scale: [B], the divisor of each picture's terms.
            fraction: fraction of the budget; before ``generator_from`` nothing is added.
        """
        if fraction < self.settings.generator_from:
            return terms
        self.discriminator.requires_grad_(False)
        losses = generator_loss(self._judge(out["x_hat"], out["y_hat"].detach(), quality))
        term = self.settings.weight * (losses / scale).mean()
        return replace(
            terms,
            total=terms.total + term,
            extra={**terms.extra, "generator": losses.detach().mean()},
        )

    def judge_both(
        self, images: Tensor, out: Mapping[str, Any], quality: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the discriminator's loss on originals and reconstructions, and values to log.

        Logged are ``discriminator``, the loss (2 ln 2 where it knows nothing), and
        ``discriminator_margin``, the mean logit of originals less that of reconstructions.

        Args:
            images: originals [B, 3, H, W] in [0, 1].
            out: output of the model.
            quality: [B], from 1 to the number of levels.
        """
        self.discriminator.requires_grad_(True)
        both = torch.cat([images, out["x_hat"].detach()])
        y_hat = out["y_hat"].detach()
        logits = self._judge(both, torch.cat([y_hat, y_hat]), torch.cat([quality, quality]))
        real, fake = logits.chunk(2)
        loss = discriminator_loss(real, fake).mean()
        margin = (real - fake).detach().mean()
        return loss, {NAME: loss.detach(), f"{NAME}_margin": margin}

    def iterate_norms(self, quality: Tensor) -> None:
        """Update the spectral norms of the weights that a batch at ``quality`` [B] changed."""
        self.discriminator.iterate_norms(self.discriminator.rows(quality).unique().tolist())

    def tensors(self) -> dict[str, Tensor]:
        """Return the discriminator's weights and norms, by their names in the state."""
        own = self.discriminator.state_dict()
        return {f"{NAME}.model.{name}": own[name] for name in own}

    def _judge(self, images: Tensor, y_hat: Tensor, quality: Tensor) -> Tensor:
        logits: Tensor = run_forward(self.accelerator, self.discriminator, images, y_hat, quality)
        return logits
