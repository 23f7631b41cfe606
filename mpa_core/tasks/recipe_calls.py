"""Calls of a recipe in which any exception becomes an error that names the hook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mpa_core.config import StrictModel
from mpa_core.runtime.foreign import foreign_code
from mpa_core.tasks.metric import Metric
from mpa_core.tasks.photos import Indexed
from mpa_core.tasks.recipe import Recipe, Split, load_recipe
from mpa_core.tasks.samples import PathBatch, Sample
from mpa_core.tasks.settings import CropSettings


class RecipeCalls:
    """The recipe registered with a path, made and called inside :func:`foreign_code`.

    Args:
        name: name of the path.
        settings, data, seed: as :class:`Recipe` takes them.

    Raises:
        PathNotFoundError, TrainingError, PluginError: as :func:`load_recipe`.
        ConfigError: ``settings`` does not fit the recipe's.
        PluginError: the recipe cannot be made. Every method raises it, too, where its hook fails.
    """

    def __init__(
        self,
        name: str,
        settings: StrictModel | Mapping[str, Any] | None = None,
        *,
        data: CropSettings | None = None,
        seed: int = 0,
    ) -> None:
        self.name = name
        recipe_class = load_recipe(name)
        with self._calling("__init__"):
            self.recipe: Recipe = recipe_class(settings, data=data, seed=seed)

    def setup(self, device: torch.device) -> None:
        """Call :meth:`Recipe.setup`."""
        with self._calling("setup"):
            self.recipe.setup(device)

    def task_loss(self, x_hat: Tensor, batch: PathBatch) -> Tensor:
        """Call :meth:`Recipe.task_loss`."""
        with self._calling("task_loss"):
            return self.recipe.task_loss(x_hat, batch)

    def dataset(self, root: Path, split: Split, crop: int | None) -> Sequence[Sample]:
        """Call :meth:`Recipe.dataset`; asking for a sample later is a call of the recipe, too."""
        with self._calling("dataset"):
            return _Samples(self, self.recipe.dataset(root, split, crop))

    def metrics(self) -> Mapping[str, Metric]:
        """Call :meth:`Recipe.metrics`."""
        with self._calling("metrics"):
            return dict(self.recipe.metrics())

    def _calling(self, hook: str) -> AbstractContextManager[None]:
        return foreign_code(f"{hook} of the recipe of task path {self.name!r} fails")


class _Samples(Indexed[Sample]):
    """The samples that a recipe's ``dataset`` returned."""

    def __init__(self, calls: RecipeCalls, samples: Sequence[Sample]) -> None:
        self._calls = calls
        self._samples = samples
        self._length = len(samples)

    def __len__(self) -> int:
        return self._length

    def item(self, index: int) -> Sample:
        """Return sample ``index``."""
        with self._calls._calling("dataset"):
            return self._samples[index]
