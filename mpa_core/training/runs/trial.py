"""One sample through what a plugin brings to a training, before the first step is made.

What would end a run at its first step or, worse, at its last, when the first validation comes, ends
it before anything is spent.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from mpa_core.runtime.foreign import foreign_code
from mpa_core.tasks.metric import Metric
from mpa_core.tasks.samples import Sample, collate
from mpa_core.training.data.loader import Source
from mpa_core.training.data.samples import PathStep
from mpa_core.training.objectives.path import PathObjective


def try_step(objective: PathObjective, source: Source[PathStep]) -> torch.Tensor:
    """Return the loss of the first sample, computed forward and back.

    The path is afterwards as it was, and so are torch's generators. Gradients are left in the
    parameters; the first step begins by clearing them.

    Raises:
        MPAError: as :meth:`PathObjective.shard_step`.
        PluginError: the gradient cannot be computed.
    """
    module = objective.module
    before = {name: value.detach().clone() for name, value in module.state_dict().items()}
    losses: list[torch.Tensor] = []

    def backward(loss: torch.Tensor) -> None:
        losses.append(loss.detach())
        with foreign_code(f"{objective.recipe.who}: the way back from its loss failed"):
            loss.backward()

    devices = [objective.device] if objective.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            torch.manual_seed(objective.config.seed)
            objective.shard_step(source.batch(0, [0]), 1.0, backward)
    finally:
        with torch.no_grad():
            for name, value in module.state_dict().items():
                value.copy_(before[name])
    return losses[0]


def try_metrics(
    metrics: Mapping[str, Metric], sample: Sample, device: torch.device
) -> dict[str, float]:
    """Return each metric of one picture, whose reconstruction is itself at less contrast.

    Raises:
        TrainingError, PluginError: as :class:`Metric`.
    """
    batch = collate([sample], torch.ones(1)).to(device)
    x_hat = 0.9 * batch.images + 0.05
    return {
        name: metric.figure(metric.per_picture(x_hat, batch).sum(0))
        for name, metric in metrics.items()
    }
