"""Stage 1b: stage 1a's loss and, from a discriminator that learns along, an adversarial term."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mpa_core.errors import ConfigError
from mpa_core.tasks.seeds import Stream, torch_seed
from mpa_core.training.data.photos import BatchSource
from mpa_core.training.engine.loop import StepRecord
from mpa_core.training.engine.optim import Trained, adam
from mpa_core.training.engine.parallel import run_forward
from mpa_core.training.objectives.base import Stage1
from mpa_core.training.objectives.discriminator import (
    Discriminator,
    discriminator_loss,
    generator_loss,
)
from mpa_core.training.objectives.losses import LossTerms
from mpa_core.training.settings.base import OptimSettings, TrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

NAME = "discriminator"
"""Of its optimiser, and what its tensors begin with in the state."""


class Stage1b(Stage1):
    """Equation (7) whole: in each step the codec learns, then the discriminator.

    Both learn from the same reconstructions, so the codec runs once a step. The discriminator is
    given the latents as they are: no gradient reaches the encoder through them.

    Raises :class:`ConfigError` if ``config.adversarial`` is not set.
    """

    def __init__(self, config: TrainConfig, source: BatchSource, accelerator: Accelerator) -> None:
        if config.adversarial is None:
            raise ConfigError(
                "stage 1b needs settings of its adversarial term and found none; set "
                "adversarial={} for the published ones"
            )
        super().__init__(config, source, accelerator)
        self.adversarial = config.adversarial
        torch.manual_seed(torch_seed(config.seed, Stream.DISCRIMINATOR))
        self.discriminator = Discriminator(
            config.model.g_a[-1].width,
            config.model.quality_levels if self.adversarial.per_level else 1,
            widths=self.adversarial.widths,
            context_channels=self.adversarial.context_channels,
        ).to(self.device)
        parameters = dict(self.discriminator.named_parameters())
        optim = OptimSettings(
            lr=self.adversarial.lr, betas=self.adversarial.betas, eps=self.adversarial.eps
        )
        self.add_trained(Trained(NAME, adam(parameters, optim), parameters, clip=None))

    def train_step(self, step: int, fraction: float) -> StepRecord:
        """As stage 1a's; the discriminator's norms follow the weights that it changed."""
        record = super().train_step(step, fraction)
        if record.finite:
            # Of the whole batch, so that every process does the same.
            rows = self.discriminator.rows(self.source.places.quality(step))
            self.discriminator.iterate_norms(rows.unique().tolist())
        return record

    def generator_terms(
        self, images: Tensor, out: Mapping[str, Any], quality: Tensor, fraction: float
    ) -> LossTerms:
        """Stage 1a's terms plus ``weight * L_G``; L_G is logged as ``generator``."""
        terms = super().generator_terms(images, out, quality, fraction)
        if fraction < self.adversarial.generator_from:
            return terms
        self.discriminator.requires_grad_(False)
        losses = generator_loss(self._judge(out["x_hat"], out["y_hat"].detach(), quality))
        term = self.adversarial.weight * (losses / self.loss.scale(quality)).mean()
        return replace(
            terms,
            total=terms.total + term,
            extra={**terms.extra, "generator": losses.detach().mean()},
        )

    def after_backward(
        self, images: Tensor, out: Mapping[str, Any], quality: Tensor, fraction: float
    ) -> Mapping[str, Tensor]:
        """The discriminator's gradients.

        Logged: ``discriminator``, its loss (2 ln 2 where it knows nothing), and
        ``discriminator_margin``, the mean logit of originals less that of reconstructions.
        """
        logged = super().after_backward(images, out, quality, fraction)
        self.discriminator.requires_grad_(True)
        both = torch.cat([images, out["x_hat"].detach()])
        y_hat = out["y_hat"].detach()
        logits = self._judge(both, torch.cat([y_hat, y_hat]), torch.cat([quality, quality]))
        real, fake = logits.chunk(2)
        loss = discriminator_loss(real, fake).mean()
        self.backward(loss)
        margin = (real - fake).detach().mean()
        return {**logged, NAME: loss.detach(), f"{NAME}_margin": margin}

    def tensors(self) -> dict[str, Tensor]:
        """Stage 1a's state, and the discriminator's weights and norms."""
        own = self.discriminator.state_dict()
        return {**super().tensors(), **{f"{NAME}.model.{name}": own[name] for name in own}}

    def _judge(self, images: Tensor, y_hat: Tensor, quality: Tensor) -> Tensor:
        logits: Tensor = run_forward(self.accelerator, self.discriminator, images, y_hat, quality)
        return logits
