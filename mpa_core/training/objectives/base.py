"""Stages 1a and 1b: the base codec and its encoder's side path, on equation (7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mpa_core.base.api import needs
from mpa_core.base.entropy import CDF_BUFFERS
from mpa_core.coding.model import MPAModel
from mpa_core.errors import ConfigError
from mpa_core.training.data.photos import Batch, PhotoBatches
from mpa_core.training.engine.freezing import blocks_are_frozen, entropy_is_frozen, freeze_model
from mpa_core.training.engine.objective import Objective, ShardRecord
from mpa_core.training.engine.optim import Trained, adam
from mpa_core.training.engine.parallel import run_forward
from mpa_core.training.objectives.losses import LossTerms, RateDistortionLoss, loss_distance
from mpa_core.training.rescale import rescale_blocks
from mpa_core.training.settings.base import TrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

    from mpa_core.training.objectives.adversary import Adversary

QUANTILES = "quantiles"
"""CompressAI's name for the parameters that the second optimiser trains."""

KLT_BATCHES = 64
"""Number of batches, from the first, to which the KLT start is fitted."""

MODEL = "model."
"""Beginning of the names of the model's tensors in the state."""


class BaseObjective(Objective[Batch, MPAModel]):
    """Stage 1a; with ``config.adversarial`` stage 1b, whose :class:`Adversary` trains along.

    Both networks of stage 1b learn from the same reconstructions, so the codec runs once a step.
    Making it seeds torch.

    Raises:
        ConfigError: ``optim.trainable`` matches nothing that has a loss, or does not fit
            ``init.block_rescale``.
    """

    prefix = MODEL
    resized = CDF_BUFFERS

    def __init__(self, config: TrainConfig, source: PhotoBatches, accelerator: Accelerator) -> None:
        self.kind = "stage1a" if config.adversarial is None else "stage1b"
        self.config = config
        self.source = source
        self.accelerator = accelerator
        self.device = accelerator.device
        torch.manual_seed(config.seed)
        self.module = MPAModel(config.model).to(self.device)
        offered = self.module.base.capabilities
        if config.init.transform == "klt":
            crops = torch.cat([source.batch(step).images for step in range(KLT_BATCHES)])
            start = needs(
                offered.start_from_photos,
                config.model,
                "start from photos",
                "set init.transform=random",
            )
            start(crops.to(self.device))
        if (config.init.y_gain, config.init.z_gain) != ((1.0, 1.0), (1.0, 1.0)):
            spread = needs(
                offered.spread_gains,
                config.model,
                "gains to spread",
                "leave out init.y_gain and init.z_gain",
            )
            spread(config.init.y_gain, config.init.z_gain)
        trainable = freeze_model(self.module, config.optim.trainable)
        self._rescale_blocks()
        distance = loss_distance(config.loss)
        loss = RateDistortionLoss(config.loss, distance, shards=config.data.shards)
        self.loss = loss.to(self.device)
        main = {n: p for n, p in trainable.items() if not n.endswith(QUANTILES)}
        optim = config.optim
        if not main:
            raise ConfigError(
                f"optim.trainable is {', '.join(optim.trainable)}: nothing but quantiles, which "
                "have no loss of their own; name a part of the codec, such as 'base.g_s.*'"
            )
        self.trained = [Trained("adam", adam(main, optim), main, optim.clip)]
        quantiles = {n: p for n, p in trainable.items() if n.endswith(QUANTILES)}
        if quantiles:
            aside = torch.optim.Adam(list(quantiles.values()), lr=optim.aux_lr, foreach=True)
            self.aside = Trained("aux", aside, quantiles, clip=None)
        self.adversary: Adversary | None = None
        if config.adversarial is not None:
            from mpa_core.training.objectives.adversary import Adversary

            self.adversary = Adversary(config.adversarial, config, accelerator)
            self.trained.append(self.adversary.trained)

    def shard_step(
        self, part: Batch, fraction: float, backward: Callable[[Tensor], None]
    ) -> ShardRecord:
        """Compute the codec's gradients and, in stage 1b, then the discriminator's."""
        batch = part.to(self.device)
        images, quality = batch.images, batch.quality
        out = run_forward(self.accelerator, self.module, images, quality)
        terms = self.terms(images, out, quality, fraction)
        backward(terms.total)
        scalars = {
            "loss": terms.total.detach(),
            "perceptual": terms.perceptual,
            "ratio": terms.ratio,
            **terms.extra,
        }
        if self.adversary is not None:
            loss, logged = self.adversary.judge_both(images, out, quality)
            backward(loss)
            scalars |= logged
        return ShardRecord(part.quality, {"bpp": terms.bpp, "mse": terms.mse}, scalars)

    def terms(
        self, images: Tensor, out: Mapping[str, Any], quality: Tensor, fraction: float
    ) -> LossTerms:
        """Return the codec's loss terms at ``fraction`` of the budget.

        ``images`` are [B, 3, H, W] in [0, 1], ``out`` is ``model(images, quality)``, ``quality`` is
        [B]. Scalars in ``extra`` are logged.
        """
        zero = torch.zeros((), device=self.device)
        terms: LossTerms = self.loss(
            images,
            out["x_hat"],
            out["likelihoods"],
            quality,
            out.get("ratio_loss", zero),
            perceptual=fraction >= self.config.loss.perceptual_from,
        )
        if self.adversary is None:
            return terms
        return self.adversary.add_term(terms, out, quality, self.loss.scale(quality), fraction)

    def after_step(self, step: int) -> None:
        """Train the quantiles, and update the norms of the discriminator's new weights."""
        if self.aside is not None:
            for group in self.aside.optimizer.param_groups:
                group["lr"] = self.config.optim.aux_lr
            self.aside.optimizer.zero_grad(set_to_none=True)
            self.module.aux_loss().backward()
            self.aside.optimizer.step()
        if self.adversary is not None:
            # The whole batch's qualities, so that every process does the same.
            self.adversary.iterate_norms(self.source.places.quality(step))

    @torch.no_grad()
    def start_from(self, module: MPAModel) -> None:
        """Begin with the parameters of ``module``, which has the same architecture."""
        own = dict(self.module.named_parameters())
        for name, value in module.named_parameters():
            own[name].copy_(value)
        if entropy_is_frozen(self.module):  # its tables stay valid
            self.module.base.entropy.load_state_dict(module.base.entropy.state_dict())
        self._rescale_blocks()

    def more_tensors(self) -> dict[str, Tensor]:
        """Return the discriminator's weights and norms."""
        return {} if self.adversary is None else self.adversary.tensors()

    def _rescale_blocks(self) -> None:
        factor = self.config.init.block_rescale
        if factor == 1.0:
            return
        if blocks_are_frozen(self.module):
            raise ConfigError(
                f"init.block_rescale is {factor:g} and changes blocks that optim.trainable "
                "freezes; set init.block_rescale=1"
            )
        rescale_blocks(self.module, factor)
