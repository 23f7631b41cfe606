"""The tasks of readers: what a path's plugin says of decoded pictures, without labels."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import Tensor, nn

from mpa_core.arguments import shown
from mpa_core.coding.effort.readers import MAIN_READER, Reader, TaskLoss, TaskLossOf, as_weights
from mpa_core.coding.model import MPAModel
from mpa_core.errors import PluginError
from mpa_core.mix import MAIN, Mix
from mpa_core.paths.path import TaskPath
from mpa_core.plugins.registry import load_target, registry
from mpa_core.runtime.foreign import foreign_code
from mpa_core.runtime.normal_tensors import normal_tensors

_HOOK = "reader_loss"


class ReaderTasks:
    """The tasks of paths, each made once, since most load a network."""

    def __init__(self) -> None:
        self._made: dict[tuple[type[TaskPath], torch.device], TaskLossOf | None] = {}

    def __reduce__(self) -> tuple[type[ReaderTasks], tuple[()]]:
        # A copy of a codec makes its own: what plugins hold need not be possible to copy.
        return ReaderTasks, ()

    def readers(self, reader: Any, model: MPAModel) -> list[Reader] | None:
        """Return the readers that ``codec.encode`` was given; None for None.

        Raises:
            ConfigError, PathNotFoundError: as :func:`as_weights`.
            PluginError, MPAError: as :meth:`of`.
        """
        if reader is None:
            return None
        return [
            MAIN_READER._replace(weight=weight)
            if name == MAIN
            else Reader(Mix.of({name: 1.0}), weight, self.of(model.paths[name], model.device))
            for name, weight in as_weights(reader, tuple(model.paths)).items()
        ]

    def of(self, path: nn.Module, device: torch.device) -> TaskLossOf | None:
        """Return the task of ``path``; None where no plugin that is installed has one.

        Raises:
            PluginError: the plugin's recipe fails.
            MPAError: as the recipe raises it, such as :class:`MissingDependencyError` where its
                task model is not on this machine.
        """
        path_class = type(cast(TaskPath, path))
        key = path_class, device
        if key not in self._made:
            self._made[key] = _make(path_class, device)
        return self._made[key]


@normal_tensors()  # a network that is made in inference mode has no gradients
def _make(path_class: type[TaskPath], device: torch.device) -> TaskLossOf | None:
    try:
        offered = registry().offering(path_class)
    except PluginError:  # a path whose plugin is not installed, or that was made in memory
        return None
    target = offered.spec.recipe
    if target is None:
        return None
    who = offered.recipe_name

    def calling(hook: str) -> AbstractContextManager[None]:
        return foreign_code(f"{who}: {hook}() failed")

    made: Callable[[], Any] = load_target(target, f"{who}: {target!r}")
    with calling("__init__"):
        recipe = made()
        hook: Callable[[Tensor], TaskLoss | None] | None = getattr(recipe, _HOOK, None)
    if hook is None:
        return None
    with calling("setup"):
        recipe.setup(device)

    def task(images: Tensor) -> TaskLoss | None:
        with calling(_HOOK):
            loss = hook(images)
        if loss is None:
            return None
        if not callable(loss):
            raise PluginError(
                f"{who}: {_HOOK}() returned {shown(loss)}, expected a function of decoded pictures "
                "or None; see docs/spec/plugin-api.md"
            )

        def checked(x_hat: Tensor) -> Tensor:
            with calling(f"the function of {_HOOK}"):
                found = loss(x_hat)
            if not isinstance(found, Tensor) or found.shape != (len(x_hat),):
                what = tuple(found.shape) if isinstance(found, Tensor) else shown(found)
                raise PluginError(
                    f"{who}: the function of {_HOOK}() returned {what}, expected a tensor with one "
                    f"loss for each picture, of shape ({len(x_hat)},)"
                )
            return found

        return checked

    return task
