"""Stage 2: one path, trained on the latents of a frozen base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mpa_core.checkpoints.fingerprint import fingerprint
from mpa_core.coding.model import MPAModel
from mpa_core.paths.gumbel import GumbelAggregator
from mpa_core.paths.path import TaskPath
from mpa_core.tasks.recipe_calls import RecipeCalls
from mpa_core.tasks.samples import Sample, collate
from mpa_core.training.data.latents import Latents
from mpa_core.training.data.samples import PathStep
from mpa_core.training.engine.freezing import freeze_all_but
from mpa_core.training.engine.objective import Objective, ShardRecord
from mpa_core.training.engine.optim import Trained, adam
from mpa_core.training.engine.parallel import run_forward
from mpa_core.training.engine.trainer import require_fit
from mpa_core.training.objectives.losses import loss_distance
from mpa_core.training.objectives.path_loss import PathLoss
from mpa_core.training.settings.path import PathTrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

STAGE = "stage2"

PATH = "path."
"""Beginning of the names of the path's tensors in the state."""


class PathObjective(Objective[PathStep, TaskPath]):
    """Equations (8) and (9) on the reconstructions of a path.

    The base is in eval mode and none of its parameters has a gradient, so that ``y_hat`` is a
    constant of each picture and a step runs ``g_s`` and the task model alone. The clip norm is of
    the path's own gradients. Making it seeds torch.

    Args:
        config: settings.
        model: the base, which is frozen here; paths attached to it are not used.
        path: the path to train, built for the base's stages.
        recipe: the recipe, set up on the device.
        latents: latents of ``model``.
        accelerator: the processes.

    Raises:
        ConfigError: ``optim.trainable`` matches no parameter of the path.
    """

    prefix = PATH

    def __init__(
        self,
        config: PathTrainConfig,
        model: MPAModel,
        path: TaskPath,
        recipe: RecipeCalls,
        latents: Latents,
        accelerator: Accelerator,
    ) -> None:
        self.kind = STAGE
        self.config = config
        self.accelerator = accelerator
        self.device = accelerator.device
        torch.manual_seed(config.seed)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.module = path.to(self.device)
        self.recipe = recipe
        self.latents = latents
        distance = loss_distance(config.loss)
        loss = PathLoss(config.loss, distance, shards=config.data.shards)
        self.loss = loss.to(self.device)
        parameters = freeze_all_but(self.module, config.optim.trainable)
        optimizer = adam(parameters, config.optim)
        self.trained = [Trained("adam", optimizer, parameters, config.optim.clip)]

    def shard_step(
        self, part: PathStep, fraction: float, backward: Callable[[Tensor], None]
    ) -> ShardRecord:
        """Decode the pictures' latents by the path, and compute the path's gradients."""
        batch = part.batch.to(self.device)
        y_hat, bpp = self.latents(part.pictures, batch.images, batch.quality)
        router = GumbelAggregator(self.module, part.main_share, part.q_task)
        base = self.model.base
        quality = base.quality(batch.quality, y_hat)
        x_hat = run_forward(self.accelerator, base.synthesise, y_hat, quality, router)
        terms = self.loss(
            batch.images,
            x_hat,
            self.recipe.task_loss(x_hat, batch),
            batch.quality,
            router.ratio_loss(),
            perceptual=fraction >= self.config.loss.perceptual_from,
        )
        backward(terms.total)
        return ShardRecord(
            quality=batch.quality,
            per_image={"bpp": bpp, "mse": terms.mse},
            scalars={
                "loss": terms.total.detach(),
                "task": terms.task,
                "perceptual": terms.perceptual,
                "ratio": terms.ratio,
            },
        )

    def latents_of(self, samples: Sequence[Sample], quality: Tensor) -> Tensor:
        """Return ``y_hat`` [B, M, h, w] of ``samples`` at ``quality`` [B]."""
        batch = collate(samples, quality).to(self.device)
        return self.latents([s.image for s in samples], batch.images, batch.quality)[0]

    def base_fingerprint(self) -> str:
        """Return the fingerprint of the base's present tensors."""
        return fingerprint(self.model.frozen_state())

    @torch.no_grad()
    def start_from(self, module: TaskPath) -> None:
        """Begin with the tensors of ``module``, which has the same class and config.

        Raises:
            CheckpointError: they do not fit.
        """
        live, stored = self.module.state_dict(), module.state_dict()
        require_fit(live, stored, "the path to start from")
        for name, value in live.items():
            value.copy_(stored[name])
