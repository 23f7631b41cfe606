"""One step of training, and its complete state, for any objective."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, final

import torch
from torch import Tensor

from mpa_core.errors import CheckpointError
from mpa_core.training.data.loader import Source, StepLoader
from mpa_core.training.engine.ema import ParameterAverage
from mpa_core.training.engine.loop import StepRecord
from mpa_core.training.engine.objective import Module, Objective, Part
from mpa_core.training.engine.optim import Trained, allocate_state, noise_seed
from mpa_core.training.engine.parallel import (
    load_scaler,
    own_shards,
    scaler_state,
    settle_gradients,
)
from mpa_core.training.engine.schedule import lr_factor
from mpa_core.training.settings.base import RunConfig

if TYPE_CHECKING:
    from accelerate import Accelerator


@final
class Trainer(Generic[Part, Module]):
    """Steps an objective's networks on the batches of a source, and averages their weights.

    All randomness of a step is seeded by (seed, step, shard), so no generator's state has to be
    stored. The code that makes a trainer has to close it, since batches may be made by other
    processes.

    Args:
        config: settings.
        objective: networks and loss.
        source: batches by step.
        accelerator: the processes.

    Raises:
        TrainingError: the processes cannot have equally many shards.
    """

    def __init__(
        self,
        config: RunConfig,
        objective: Objective[Part, Module],
        source: Source[Part],
        accelerator: Accelerator,
    ) -> None:
        self.config = config
        self.objective = objective
        self.source = source
        self.accelerator = accelerator
        self.shards = own_shards(accelerator, config.data.batch, config.data.shards)
        workers = config.data.workers
        if workers is None:
            workers = source.workers_for(accelerator.device)
        self.loader = StepLoader(
            source,
            self.shards,
            seed=config.seed,
            workers=workers,
            pin=accelerator.device.type == "cuda",
        )
        for trained in self._optimised():
            allocate_state(trained.optimizer, trained.parameters)
        self.average = ParameterAverage(objective.trained[0].parameters, config.optim.ema_decay)

    def train_step(self, step: int, fraction: float) -> StepRecord:
        """Do step number ``step`` (from 0) at ``fraction`` of the budget."""
        parts = self.loader.parts(step)
        factor = lr_factor(self.config.schedule, fraction)
        trained = self.objective.trained
        for each in trained:
            each.begin_step(factor)
        losses: list[Tensor] = []

        def backward(loss: Tensor) -> None:
            losses.append(loss.detach())
            self.accelerator.backward(loss / len(self.shards))

        records = []
        for shard, part in zip(self.shards, parts, strict=True):
            torch.manual_seed(noise_seed(self.config.seed, step, shard.number))
            records.append(self.objective.shard_step(part, fraction, backward))
        norms, finite = settle_gradients(self.accelerator, trained, losses)
        if finite:
            for each in trained:
                each.optimizer.step()
            self.objective.after_step(step)
            self.average.update()
        named = {"grad_norm" if n == "adam" else f"{n}_grad_norm": v for n, v in norms.items()}
        first = records[0]
        return StepRecord(
            finite=finite,
            quality=torch.cat([record.quality for record in records]),
            per_image={
                name: torch.cat([record.per_image[name] for record in records])
                for name in first.per_image
            },
            scalars={
                **{
                    name: torch.stack([record.scalars[name] for record in records]).mean()
                    for name in first.scalars
                },
                **named,
            },
            lr=self.config.optim.lr * factor,
        )

    def averaged(self) -> Module:
        """Return a copy of the module with the averaged weights, in eval mode and frozen."""
        return self.average.in_copy_of(self.objective.module)

    def start_from(self, module: Module) -> None:
        """Begin with the weights of ``module``.

        Raises:
            CheckpointError: they differ in shape.
        """
        self.objective.start_from(module)
        self.restart_average()

    def restart_average(self) -> None:
        """Set the averages to the present parameters, after no step."""
        self.average.load(self.objective.trained[0].parameters, updates=0)

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that training changes, by name; not copies."""
        own = self.objective.module.state_dict()
        state = {f"{self.objective.prefix}{name}": value for name, value in own.items()}
        state |= {f"average.{name}": value for name, value in self.average.tensors().items()}
        for trained in self._optimised():
            for name, parameter in trained.parameters.items():
                for key, value in trained.optimizer.state[parameter].items():
                    state[f"{trained.name}.{key}.{name}"] = value
        return {**state, **self.objective.more_tensors()}

    def meta(self) -> dict[str, Any]:
        """Return the rest of the state, in values that JSON can hold."""
        scale = scaler_state(self.accelerator)
        return {"average_updates": self.average.updates, **({"loss_scale": scale} if scale else {})}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Restore :meth:`tensors` and :meth:`meta`.

        Raises:
            CheckpointError: they do not fit.
        """
        prefix, resized = self.objective.prefix, self.objective.resized
        live = self.tensors()
        require_fit(live, tensors, "the checkpoint", resized)
        for name, value in live.items():
            if not name.startswith(prefix):
                value.copy_(tensors[name])
        self.objective.module.load_state_dict(
            {name[len(prefix) :]: tensors[name] for name in live if name.startswith(prefix)}
        )
        self.average.updates = int(meta["average_updates"])
        load_scaler(self.accelerator, meta.get("loss_scale", {}))

    def close(self) -> None:
        """End the processes that make batches."""
        self.loader.close()

    def _optimised(self) -> Iterator[Trained]:
        yield from self.objective.trained
        if self.objective.aside is not None:
            yield self.objective.aside


def require_fit(
    live: Mapping[str, Tensor],
    stored: Mapping[str, Tensor],
    what: str,
    resized: tuple[str, ...] = (),
) -> None:
    """Check that the tensors have the same names and shapes.

    Args:
        live: the tensors that train.
        stored: the tensors from a file.
        what: name of ``stored`` in the message.
        resized: endings of names whose shapes may differ.

    Raises:
        CheckpointError: names or shapes differ.
    """
    if live.keys() != stored.keys():
        odd = sorted(live.keys() ^ stored.keys())
        raise CheckpointError(
            f"{what} does not fit what trains here: {len(odd)} tensors are only in one of them, "
            f"first {odd[0]}; use the versions and the settings that wrote it"
        )
    for name, value in live.items():
        if value.shape != stored[name].shape and not name.endswith(resized):
            raise CheckpointError(
                f"{what} does not fit what trains here: {name} is {list(stored[name].shape)}, "
                f"expected {list(value.shape)}; use the settings that wrote it"
            )
