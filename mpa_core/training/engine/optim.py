"""The optimiser of every stage: Adam, its state, clipping, the seed of a step."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mpa_core.tasks.seeds import Stream, torch_seed
from mpa_core.training.settings.base import OptimSettings


@dataclass(frozen=True)
class Trained:
    """Parameters that are stepped by the gradients of a step's losses."""

    name: str
    """Beginning of the names of their optimiser's tensors in the state."""
    optimizer: torch.optim.Optimizer
    parameters: dict[str, nn.Parameter]
    clip: float | None
    """Largest norm of their gradient; None never clips."""

    def begin_step(self, factor: float) -> None:
        """Clear the last step's gradients, and set the learning rate to ``factor`` of its peak."""
        self.optimizer.zero_grad(set_to_none=True)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor

    def clip_gradients(self) -> Tensor:
        """Clip the gradients, and return their norm before, a scalar."""
        return nn.utils.clip_grad_norm_(
            list(self.parameters.values()), self.clip or math.inf, foreach=True
        )


def lr_factor_of(name: str, factors: Mapping[str, float]) -> float:
    """Return the factor of the first pattern that ``name`` matches; 1 if it matches none."""
    return next((f for pattern, f in factors.items() if fnmatch.fnmatchcase(name, pattern)), 1.0)


def adam(named: Mapping[str, nn.Parameter], settings: OptimSettings) -> torch.optim.Adam:
    """Build Adam with a ``peak_lr`` in each group, to which the schedule's factor is applied."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in named.items():
        groups.setdefault(lr_factor_of(name, settings.lr_factors), []).append(parameter)
    return torch.optim.Adam(
        [{"params": group, "peak_lr": settings.lr * factor} for factor, group in groups.items()],
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        fused=True,
    )


def allocate_state(optimizer: torch.optim.Optimizer, named: Mapping[str, nn.Parameter]) -> None:
    """Give every parameter, before any step, the state that Adam would make at its first step."""
    # A fused optimiser counts its steps where the parameters are.
    fused = bool(optimizer.defaults.get("fused"))
    for parameter in named.values():
        device = parameter.device if fused else torch.device("cpu")
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }


def noise_seed(seed: int, step: int, shard: int = 0) -> int:
    """Return the seed of all random numbers in the computation of ``shard`` of ``step``."""
    return torch_seed(seed, Stream.NOISE, step, shard)
