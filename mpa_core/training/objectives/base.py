"""Stage 1a: the base codec and its encoder's side path, on equation (7) without GAN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mpa_core.base.tinylic.entropy import CDF_BUFFERS
from mpa_core.coding.model import MPAModel
from mpa_core.errors import CheckpointError, ConfigError
from mpa_core.training import klt
from mpa_core.training.data.photos import BatchSource
from mpa_core.training.engine.ema import ParameterAverage
from mpa_core.training.engine.freezing import blocks_are_frozen, entropy_is_frozen, freeze_all_but
from mpa_core.training.engine.loop import StepRecord
from mpa_core.training.engine.optim import Trained, adam, allocate_state, noise_seed
from mpa_core.training.engine.parallel import (
    load_scaler,
    own_shards,
    run_forward,
    scaler_state,
    settle_gradients,
)
from mpa_core.training.engine.schedule import lr_factor
from mpa_core.training.objectives.losses import LossTerms, RateDistortionLoss, loss_distance
from mpa_core.training.rescale import rescale_blocks
from mpa_core.training.settings.base import TrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

QUANTILES = "quantiles"
"""CompressAI's name for the parameters that the second optimiser trains."""

KLT_BATCHES = 64
"""The start is fitted to the first this many batches."""

MODEL = "model."
"""What the names of the model's tensors begin with in the state."""


class Stage1:
    """Model, optimisers, averaged weights, and one step of training.

    All randomness of a step (quantisation noise, Gumbel noise, stochastic depth, the perceptual
    term's shift) is seeded by (seed, step, shard), so no generator's state has to be stored. Seeds
    torch. Raises :class:`TrainingError` if the processes cannot share the shards out equally.
    """

    def __init__(self, config: TrainConfig, source: BatchSource, accelerator: Accelerator) -> None:
        self.config = config
        self.source = source
        self.accelerator = accelerator
        self.device = accelerator.device
        self.shards = own_shards(accelerator, config.data.batch, config.data.shards)
        torch.manual_seed(config.seed)
        self.model = MPAModel(config.model).to(self.device)
        if config.init.transform == "klt":
            crops = torch.cat([source.batch(step).images for step in range(KLT_BATCHES)])
            klt.initialise(self.model, crops.to(self.device))
        self.model.base.y_gains.spread(*config.init.y_gain)
        self.model.base.z_gains.spread(*config.init.z_gain)
        trainable = freeze_all_but(self.model, config.optim.trainable)
        self._rescale_blocks()
        distance = loss_distance(config.loss)
        loss = RateDistortionLoss(config.loss, distance, shards=config.data.shards)
        self.loss = loss.to(self.device)
        self.main = {n: p for n, p in trainable.items() if not n.endswith(QUANTILES)}
        self.quantiles = {n: p for n, p in trainable.items() if n.endswith(QUANTILES)}
        optim = config.optim
        self.trained: list[Trained] = []
        if not self.main:
            raise ConfigError(
                f"optim.trainable is {', '.join(optim.trainable)}: nothing but quantiles, which "
                "have no loss of their own; name a part of the codec, such as 'base.g_s.*'"
            )
        self.add_trained(Trained("adam", adam(self.main, optim), self.main, optim.clip))
        self.aux_optimizer: torch.optim.Optimizer | None = None
        if self.quantiles:
            self.aux_optimizer = torch.optim.Adam(
                list(self.quantiles.values()), lr=optim.aux_lr, foreach=True
            )
            allocate_state(self.aux_optimizer, self.quantiles)
        self.average = ParameterAverage(self.main, optim.ema_decay)

    # ------------------------------------------------------------------ for stages built on this

    def add_trained(self, trained: Trained) -> None:
        """Step these parameters as well, and keep their optimiser's state in checkpoints.

        Every group of the optimiser has a ``peak_lr``, which the schedule is applied to.
        """
        allocate_state(trained.optimizer, trained.parameters)
        self.trained.append(trained)

    def generator_terms(
        self, images: Tensor, out: Mapping[str, Any], quality: Tensor, fraction: float
    ) -> LossTerms:
        """The codec's loss on ``out = model(images, quality)``; a subclass adds terms to it.

        ``images`` [B, 3, H, W], ``quality`` [B]. Scalars in ``extra`` are logged.
        """
        zero = torch.zeros((), device=self.device)
        return self.loss(
            images,
            out["x_hat"],
            out["likelihoods"],
            quality,
            out.get("ratio_loss", zero),
            perceptual=fraction >= self.config.loss.perceptual_from,
        )

    def after_backward(
        self, images: Tensor, out: Mapping[str, Any], quality: Tensor, fraction: float
    ) -> Mapping[str, Tensor]:
        """Called when the codec's gradients are there and nothing has been stepped yet.

        A subclass hands further losses to :meth:`backward`; what it returns is logged.
        """
        del images, out, quality, fraction
        return {}

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``, a mean over the images, to those of this step."""
        self._losses.append(loss.detach())
        self.accelerator.backward(loss / len(self.shards))

    # ------------------------------------------------------------------ a step

    def train_step(self, step: int, fraction: float) -> StepRecord:
        """Step number ``step`` (from 0) at ``fraction`` of the budget; see :class:`StepRecord`."""
        batch = self.source.batch(step, [row for shard in self.shards for row in shard.rows])
        factor = lr_factor(self.config.schedule, fraction)
        self._losses: list[Tensor] = []
        for trained in self.trained:
            trained.begin_step(factor)
        parts = [
            self._shard_step(images, quality, noise_seed(self.config.seed, step, shard), fraction)
            for images, quality, shard in zip(
                batch.images.chunk(len(self.shards)),
                batch.quality.chunk(len(self.shards)),
                (shard.number for shard in self.shards),
                strict=True,
            )
        ]
        norms, finite = settle_gradients(self.accelerator, self.trained, self._losses)
        if finite:
            for trained in self.trained:
                trained.optimizer.step()
            self._train_quantiles()
            self.average.update()
        scalars = {
            name: torch.stack([scalars[name] for _, scalars in parts]).mean()
            for name in parts[0][1]
        }
        named = {"grad_norm" if n == "adam" else f"{n}_grad_norm": v for n, v in norms.items()}
        return StepRecord(
            finite=finite,
            quality=batch.quality,
            per_image={
                "bpp": torch.cat([terms.bpp for terms, _ in parts]),
                "mse": torch.cat([terms.mse for terms, _ in parts]),
            },
            scalars={**scalars, **named},
            lr=self.config.optim.lr * factor,
        )

    def _shard_step(
        self, images: Tensor, quality: Tensor, seed: int, fraction: float
    ) -> tuple[LossTerms, dict[str, Tensor]]:
        """Add a shard's gradients; its terms, and the scalars to be logged."""
        images = images.to(self.device, non_blocking=True)
        quality = quality.to(self.device, non_blocking=True)
        torch.manual_seed(seed)
        out = run_forward(self.accelerator, self.model, images, quality)
        terms = self.generator_terms(images, out, quality, fraction)
        self.backward(terms.total)
        scalars = {
            "loss": terms.total.detach(),
            "perceptual": terms.perceptual,
            "ratio": terms.ratio,
            **terms.extra,
            **self.after_backward(images, out, quality, fraction),
        }
        return terms, scalars

    def _train_quantiles(self) -> None:
        if self.aux_optimizer is None:
            return
        for group in self.aux_optimizer.param_groups:
            group["lr"] = self.config.optim.aux_lr
        self.aux_optimizer.zero_grad(set_to_none=True)
        self.model.aux_loss().backward()
        self.aux_optimizer.step()

    def _rescale_blocks(self) -> None:
        factor = self.config.init.block_rescale
        if factor == 1.0:
            return
        if blocks_are_frozen(self.model):
            raise ConfigError(
                f"init.block_rescale is {factor:g} and changes blocks that optim.trainable "
                "freezes; set init.block_rescale=1"
            )
        rescale_blocks(self.model, factor)

    @torch.no_grad()
    def start_from(self, model: MPAModel) -> None:
        """Take the parameters of ``model``, of the same architecture, as those to begin with."""
        own = dict(self.model.named_parameters())
        for name, value in model.named_parameters():
            own[name].copy_(value)
        if entropy_is_frozen(self.model):  # its tables stay the coder's
            self.model.base.entropy.load_state_dict(model.base.entropy.state_dict())
        self._rescale_blocks()
        self.average.load(self.main, updates=0)

    def averaged_model(self) -> MPAModel:
        """A copy of the model with the averaged weights, in eval mode, without gradients."""
        return self.average.in_copy_of(self.model)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that training changes, by name; not copies."""
        state = {f"{MODEL}{name}": value for name, value in self.model.state_dict().items()}
        state |= {f"average.{name}": value for name, value in self.average.tensors().items()}
        for prefix, optimizer, named in self._optimizers():
            for name, parameter in named.items():
                for key, value in optimizer.state[parameter].items():
                    state[f"{prefix}.{key}.{name}"] = value
        return state

    def meta(self) -> dict[str, Any]:
        """What belongs to the state and is no tensor."""
        scale = scaler_state(self.accelerator)
        return {"average_updates": self.average.updates, **({"loss_scale": scale} if scale else {})}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Restore :meth:`tensors` and :meth:`meta`; :class:`CheckpointError` if they do not fit."""
        live = self.tensors()
        if live.keys() != tensors.keys():
            odd = sorted(live.keys() ^ tensors.keys())
            raise CheckpointError(
                f"the checkpoint does not fit this model: {len(odd)} tensors are only in one of "
                f"them, first {odd[0]}; resume with the version of mpa-core that wrote it"
            )
        for name, value in live.items():
            if value.shape != tensors[name].shape and not name.endswith(CDF_BUFFERS):
                raise CheckpointError(
                    f"the checkpoint does not fit this model: {name} is "
                    f"{list(tensors[name].shape)}, expected {list(value.shape)}"
                )
            if not name.startswith(MODEL):
                value.copy_(tensors[name])
        self.model.load_state_dict(
            {name[len(MODEL) :]: tensors[name] for name in live if name.startswith(MODEL)}
        )
        self.average.updates = int(meta["average_updates"])
        load_scaler(self.accelerator, meta.get("loss_scale", {}))

    def _optimizers(self) -> list[tuple[str, torch.optim.Optimizer, dict[str, nn.Parameter]]]:
        found = [(each.name, each.optimizer, each.parameters) for each in self.trained]
        if self.aux_optimizer is not None:
            found.append(("aux", self.aux_optimizer, self.quantiles))
        return found
