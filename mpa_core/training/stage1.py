"""Stage 1a: the base codec and its encoder's side path, on equation (7) without GAN."""

from __future__ import annotations

import copy
import fnmatch
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from mpa_core.errors import CheckpointError
from mpa_core.model import MPAModel
from mpa_core.training import klt
from mpa_core.training.config import OptimSettings, TrainConfig
from mpa_core.training.data import BatchSource
from mpa_core.training.ema import ParameterAverage
from mpa_core.training.loop import StepRecord
from mpa_core.training.losses import RateDistortionLoss
from mpa_core.training.perceptual import build_distance
from mpa_core.training.rescale import rescale_blocks
from mpa_core.training.schedule import lr_factor

QUANTILES = "quantiles"
"""CompressAI's name for the parameters that the second optimiser trains."""

KLT_BATCHES = 64
"""The start is fitted to the first this many batches."""

_NOISE = 3  # stream of the seed; the others are in data.py


class Stage1:
    """Model, optimisers, averaged weights, and one step of training.

    All randomness of a step (quantisation noise, Gumbel noise, stochastic depth, the perceptual
    term's shift) is seeded by (seed, step), so no generator's state has to be stored. Seeds torch.
    """

    def __init__(self, config: TrainConfig, source: BatchSource) -> None:
        self.config = config
        self.source = source
        self.device = torch.device(config.run.device)
        torch.manual_seed(config.seed)
        self.model = MPAModel(config.model).to(self.device).train()
        if config.init.transform == "klt":
            crops = torch.cat([source.batch(step).images for step in range(KLT_BATCHES)])
            klt.initialise(self.model, crops.to(self.device))
        self.model.base.y_gains.spread(*config.init.y_gain)
        self.model.base.z_gains.spread(*config.init.z_gain)
        rescale_blocks(self.model, config.init.block_rescale)
        name = config.loss.perceptual
        distance = build_distance(name) if name is not None else None
        self.loss = RateDistortionLoss(config.loss, distance).to(self.device)
        named = dict(self.model.named_parameters())
        self.main = {n: p for n, p in named.items() if not n.endswith(QUANTILES)}
        self.quantiles = {n: p for n, p in named.items() if n.endswith(QUANTILES)}
        self.optimizer = _adam(self.main, config.optim)
        self.aux_optimizer = torch.optim.Adam(
            list(self.quantiles.values()), lr=config.optim.aux_lr, foreach=True
        )
        for _, optimizer, parameters in self._optimizers():
            _allocate_state(optimizer, parameters)
        self.average = ParameterAverage(self.main, config.optim.ema_decay)

    def train_step(self, step: int, fraction: float) -> StepRecord:
        """Step number ``step`` (from 0) at ``fraction`` of the budget; see :class:`StepRecord`."""
        config = self.config
        batch = self.source.batch(step)
        images = batch.images.to(self.device, non_blocking=True)
        quality = batch.quality.to(self.device, non_blocking=True)
        torch.manual_seed(_noise_seed(config.seed, step))
        factor = lr_factor(config.schedule, fraction)
        for group in self.optimizer.param_groups:
            group["lr"] = config.optim.lr * factor * group["factor"]
        for group in self.aux_optimizer.param_groups:
            group["lr"] = config.optim.aux_lr

        self.optimizer.zero_grad(set_to_none=True)
        out = self.model(images, quality)
        terms = self.loss(
            images,
            out["x_hat"],
            out["likelihoods"],
            quality,
            out["ratio_loss"],
            perceptual=fraction >= config.loss.perceptual_from,
        )
        terms.total.backward()
        norm = nn.utils.clip_grad_norm_(
            list(self.main.values()), config.optim.clip or math.inf, foreach=True
        )
        finite = bool(torch.isfinite(terms.total.detach()) & torch.isfinite(norm))
        if finite:
            self.optimizer.step()
            self.aux_optimizer.zero_grad(set_to_none=True)
            aux = self.model.aux_loss()
            aux.backward()
            self.aux_optimizer.step()
            self.average.update()
        return StepRecord(
            finite=finite,
            quality=batch.quality,
            per_image={"bpp": terms.bpp, "mse": terms.mse},
            scalars={
                "loss": terms.total.detach(),
                "perceptual": terms.perceptual,
                "ratio": terms.ratio,
                "grad_norm": norm.detach(),
            },
            lr=config.optim.lr * factor,
        )

    @torch.no_grad()
    def start_from(self, model: MPAModel) -> None:
        """Take the parameters of ``model``, of the same architecture, as those to begin with."""
        own = dict(self.model.named_parameters())
        for name, value in model.named_parameters():
            own[name].copy_(value)
        rescale_blocks(self.model, self.config.init.block_rescale)
        self.average.load(self.main, updates=0)

    def averaged_model(self) -> MPAModel:
        """A copy of the model with the averaged weights, in eval mode, without gradients."""
        model = copy.deepcopy(self.model).eval().requires_grad_(False)
        parameters = dict(model.named_parameters())
        for name, value in self.average.tensors().items():
            parameters[name].data.copy_(value)
        return model

    def tensors(self) -> dict[str, Tensor]:
        """Everything that training changes, by name; not copies."""
        state = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        state |= {f"average.{name}": value for name, value in self.average.tensors().items()}
        for prefix, optimizer, named in self._optimizers():
            for name, parameter in named.items():
                for key, value in optimizer.state[parameter].items():
                    state[f"{prefix}.{key}.{name}"] = value
        return state

    def meta(self) -> dict[str, int]:
        """What belongs to the state and is no tensor."""
        return {"average_updates": self.average.updates}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], meta: Mapping[str, int]) -> None:
        """Restore :meth:`tensors` and :meth:`meta`; :class:`CheckpointError` if they do not fit."""
        live = self.tensors()
        if live.keys() != tensors.keys():
            odd = sorted(live.keys() ^ tensors.keys())
            raise CheckpointError(
                f"the checkpoint does not fit this model: {len(odd)} tensors are only in one of "
                f"them, first {odd[0]}; resume with the version of mpa-core that wrote it"
            )
        for name, value in live.items():
            if value.shape != tensors[name].shape:
                raise CheckpointError(
                    f"the checkpoint does not fit this model: {name} is "
                    f"{list(tensors[name].shape)}, expected {list(value.shape)}"
                )
            value.copy_(tensors[name])
        self.average.updates = int(meta["average_updates"])

    def _optimizers(
        self,
    ) -> tuple[tuple[str, torch.optim.Optimizer, dict[str, nn.Parameter]], ...]:
        return (
            ("adam", self.optimizer, self.main),
            ("aux", self.aux_optimizer, self.quantiles),
        )


def lr_factor_of(name: str, factors: Mapping[str, float]) -> float:
    """The factor of the first pattern that ``name`` matches; 1 if it matches none."""
    return next((f for pattern, f in factors.items() if fnmatch.fnmatchcase(name, pattern)), 1.0)


def _adam(named: Mapping[str, nn.Parameter], settings: OptimSettings) -> torch.optim.Adam:
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in named.items():
        groups.setdefault(lr_factor_of(name, settings.lr_factors), []).append(parameter)
    return torch.optim.Adam(
        [{"params": group, "factor": factor} for factor, group in groups.items()],
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        fused=True,
    )


def _allocate_state(optimizer: torch.optim.Optimizer, named: Mapping[str, nn.Parameter]) -> None:
    """Give every parameter the state Adam would give it at its first step, before any step."""
    for parameter in named.values():
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }


def _noise_seed(seed: int, step: int) -> int:
    state = np.random.SeedSequence((seed, _NOISE, step)).generate_state(1, np.uint64)
    return int(state[0]) >> 1
