"""Stage 2: one path, trained on the latents of a frozen base."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mpa_core.checkpoints.fingerprint import fingerprint
from mpa_core.coding.model import MPAModel
from mpa_core.errors import CheckpointError, ConfigError
from mpa_core.paths.gumbel import GumbelAggregator
from mpa_core.paths.path import TaskPath
from mpa_core.tasks.recipe import Recipe, Sample, collate
from mpa_core.training.data.latents import Latents
from mpa_core.training.data.samples import PathSource
from mpa_core.training.engine.ema import ParameterAverage
from mpa_core.training.engine.loop import StepRecord
from mpa_core.training.engine.optim import Trained, adam, allocate_state, noise_seed
from mpa_core.training.engine.parallel import (
    Shard,
    load_scaler,
    own_shards,
    run_forward,
    scaler_state,
    settle_gradients,
)
from mpa_core.training.engine.schedule import lr_factor
from mpa_core.training.objectives.losses import loss_distance
from mpa_core.training.objectives.path_loss import PathLoss
from mpa_core.training.settings.path import PathTrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

PATH = "path."
"""What the names of the path's tensors begin with in the state."""


@dataclass(frozen=True)
class _Part:
    """What a shard adds to a :class:`StepRecord`."""

    quality: Tensor
    per_image: Mapping[str, Tensor]
    scalars: Mapping[str, Tensor]


class Stage2:
    """Path, optimiser, averaged weights, and one step of training.

    The base is in eval mode and none of its parameters takes a gradient, so that ``y_hat`` is a
    constant of each picture and a step runs ``g_s`` and the task model alone. The clip norm is of
    the path's own gradients. All randomness of a step is seeded by (seed, step, shard).
    Seeds torch.

    Args:
        config: settings.
        model: the base, which is frozen here; paths attached to it play no part.
        path: what is trained, built for the base's stages.
        recipe: set up on the device.
        source: batches.
        latents: of ``model``.
        accelerator: the processes.

    Raises:
        TrainingError: the processes cannot share the shards out equally.
        ConfigError: ``optim.trainable`` matches no parameter of the path.
    """

    def __init__(
        self,
        config: PathTrainConfig,
        model: MPAModel,
        path: TaskPath,
        recipe: Recipe,
        source: PathSource,
        latents: Latents,
        accelerator: Accelerator,
    ) -> None:
        self.config = config
        self.accelerator = accelerator
        self.device = accelerator.device
        self.shards = own_shards(accelerator, config.data.batch, config.data.shards)
        torch.manual_seed(config.seed)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.path = path.to(self.device).train()
        self.recipe = recipe
        self.source = source
        self.latents = latents
        distance = loss_distance(config.loss)
        loss = PathLoss(config.loss, distance, shards=config.data.shards)
        self.loss = loss.to(self.device)
        parameters = trainable(self.path, config.optim.trainable)
        optimizer = adam(parameters, config.optim)
        allocate_state(optimizer, parameters)
        self.trained = Trained("adam", optimizer, parameters, config.optim.clip)
        self.average = ParameterAverage(parameters, config.optim.ema_decay)

    def train_step(self, step: int, fraction: float) -> StepRecord:
        """Step number ``step`` (from 0) at ``fraction`` of the budget; see :class:`StepRecord`."""
        config = self.config
        factor = lr_factor(config.schedule, fraction)
        self.trained.begin_step(factor)
        parts = [self._shard_step(step, shard, fraction) for shard in self.shards]
        losses = [part.scalars["loss"] for part in parts]
        norms, finite = settle_gradients(self.accelerator, [self.trained], losses)
        if finite:
            self.trained.optimizer.step()
            self.average.update()
        scalars = {
            name: torch.stack([part.scalars[name] for part in parts]).mean()
            for name in parts[0].scalars
        }
        return StepRecord(
            finite=finite,
            quality=torch.cat([part.quality for part in parts]),
            per_image={
                name: torch.cat([part.per_image[name] for part in parts])
                for name in parts[0].per_image
            },
            scalars={**scalars, "grad_norm": norms[self.trained.name]},
            lr=config.optim.lr * factor,
        )

    def _shard_step(self, step: int, shard: Shard, fraction: float) -> _Part:
        """Add the gradients of a shard."""
        torch.manual_seed(noise_seed(self.config.seed, step, shard.number))
        given = self.source.step(step, shard.rows)  # where data are random, it draws
        batch = given.batch.to(self.device)
        y_hat, bpp = self.latents(given.pictures, batch.images, batch.quality)
        router = GumbelAggregator(self.path, given.main_share, given.q_task)
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
        self.accelerator.backward(terms.total / len(self.shards))
        return _Part(
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
        """``y_hat`` [B, M, h, w] of ``samples`` at ``quality`` [B]."""
        batch = collate(samples, quality).to(self.device)
        return self.latents([s.image for s in samples], batch.images, batch.quality)[0]

    def base_fingerprint(self) -> str:
        """Of the base as it is now."""
        return fingerprint(self.model.frozen_state())

    def averaged_path(self) -> TaskPath:
        """A copy of the path with the averaged weights, in eval mode, without gradients."""
        return self.average.in_copy_of(self.path)

    @torch.no_grad()
    def start_from(self, path: TaskPath) -> None:
        """Take the tensors of ``path``, of the same class and config, as those to begin with.

        Raises :class:`CheckpointError` if they do not fit.
        """
        _copy_all(self.path.state_dict(), path.state_dict(), "the path to start from")
        self.average.load(self.trained.parameters, updates=0)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that training changes, by name; not copies."""
        state = {f"{PATH}{name}": value for name, value in self.path.state_dict().items()}
        state |= {f"average.{name}": value for name, value in self.average.tensors().items()}
        for name, parameter in self.trained.parameters.items():
            for key, value in self.trained.optimizer.state[parameter].items():
                state[f"{self.trained.name}.{key}.{name}"] = value
        return state

    def meta(self) -> Mapping[str, Any]:
        """What belongs to the state and is no tensor."""
        scale = scaler_state(self.accelerator)
        return {"average_updates": self.average.updates, **({"loss_scale": scale} if scale else {})}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Restore :meth:`tensors` and :meth:`meta`; :class:`CheckpointError` if they do not fit."""
        _copy_all(self.tensors(), tensors, "the checkpoint")
        self.average.updates = int(meta["average_updates"])
        load_scaler(self.accelerator, meta.get("loss_scale", {}))


def trainable(path: TaskPath, patterns: Sequence[str]) -> dict[str, nn.Parameter]:
    """Let the parameters train that match any of the shell ``patterns``; returns them by name.

    Raises :class:`ConfigError` if a pattern matches nothing.
    """
    named = dict(path.named_parameters())
    for pattern in patterns:
        if not fnmatch.filter(named, pattern):
            raise ConfigError(
                f"optim.trainable: the path has no parameter called {pattern!r}; its first is "
                f"{next(iter(named), 'none at all')!r}"
            )
    for name, parameter in named.items():
        parameter.requires_grad_(any(fnmatch.fnmatchcase(name, each) for each in patterns))
    return {name: parameter for name, parameter in named.items() if parameter.requires_grad}


def _copy_all(live: Mapping[str, Tensor], stored: Mapping[str, Tensor], what: str) -> None:
    if live.keys() != stored.keys():
        odd = sorted(live.keys() ^ stored.keys())
        raise CheckpointError(
            f"{what} does not fit this path: {len(odd)} tensors are only in one of them, first "
            f"{odd[0]}; use the plugin's version and the settings that wrote it"
        )
    for name, value in live.items():
        if value.shape != stored[name].shape:
            raise CheckpointError(
                f"{what} does not fit this path: {name} is {list(stored[name].shape)}, expected "
                f"{list(value.shape)}; use the settings that wrote it"
            )
        value.copy_(stored[name])
