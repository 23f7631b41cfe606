"""The part of a training stage that the engine needs: networks, and a loss on part of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from torch import Tensor, nn

from mpa_core.training.engine.optim import Trained

Part = TypeVar("Part")
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class ShardRecord:
    """The values to log about one shard of a step, all detached."""

    quality: Tensor
    """[B], the quality of each picture."""
    per_image: Mapping[str, Tensor]
    """[B] each: ``bpp``, ``mse`` (0-255 scale)."""
    scalars: Mapping[str, Tensor]
    """Scalars by name, one of them ``loss``; the same names for every shard of a step."""


class Objective(ABC, Generic[Part, Module]):
    """Networks that train, and the loss they train on; a :class:`Trainer` does all the rest.

    ``Part`` is a shard of a step's input, as the run's source makes it. All random numbers in
    :meth:`shard_step` come from torch's generator, which the trainer seeds.

    Attributes:
        kind: name of this kind of run in checkpoints.
        module: its averaged copy is validated and exported; on the run's device.
        trained: parameters that are stepped by the losses' gradients, with their optimisers; those
            of the first, parameters of ``module``, are averaged.
        aside: parameters that the objective steps by itself in :meth:`after_step`, or None.
    """

    prefix: ClassVar[str]
    """Beginning of the names of the module's tensors in the state."""
    resized: ClassVar[tuple[str, ...]] = ()
    """Endings of the names of tensors whose shape may differ from one state to another."""

    kind: str
    module: Module
    trained: list[Trained]
    aside: Trained | None = None

    @abstractmethod
    def shard_step(
        self, part: Part, fraction: float, backward: Callable[[Tensor], None]
    ) -> ShardRecord:
        """Compute one shard at ``fraction`` of the budget.

        ``backward`` is called with each loss, a mean over the shard's pictures, and adds its
        gradients to those of the step.
        """

    @abstractmethod
    def start_from(self, module: Module) -> None:
        """Begin with the weights of ``module``, which has the same architecture."""

    def after_step(self, step: int) -> None:
        """Act after all of ``trained`` has been stepped; not called for a step that was skipped."""
        del step

    def more_tensors(self) -> dict[str, Tensor]:
        """Return tensors that training changes besides those of ``module`` and the optimisers."""
        return {}
