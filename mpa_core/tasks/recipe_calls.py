"""Calls of a recipe in which any exception becomes an error that names the hook."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from mpa_core.arguments import shown
from mpa_core.config import StrictModel
from mpa_core.errors import TrainingError
from mpa_core.plugins.registry import registry
from mpa_core.runtime.foreign import foreign_code
from mpa_core.tasks.metric import Metric
from mpa_core.tasks.photos import Indexed
from mpa_core.tasks.recipe import Recipe, Split, load_recipe
from mpa_core.tasks.samples import PathBatch, Sample
from mpa_core.tasks.settings import CropSettings

Value = TypeVar("Value")


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
        self.who = registry().get(name).recipe_name
        """Name of the recipe in messages: the path's name and where it comes from."""
        recipe_class = load_recipe(name)
        with self._calling("__init__"):
            self.recipe: Recipe = recipe_class(settings, data=data, seed=seed)

    def setup(self, device: torch.device) -> None:
        """Call :meth:`Recipe.setup`."""
        with self._calling("setup"):
            self.recipe.setup(device)

    def task_loss(self, x_hat: Tensor, batch: PathBatch) -> Tensor:
        """Call :meth:`Recipe.task_loss`.

        Raises:
            TrainingError: it returns no tensor, or one of another shape, or one that is not 0 and
                that no gradient goes back from.
        """
        with self._calling("task_loss"):
            loss = self.recipe.task_loss(x_hat, batch)
        loss = self._expect(loss, Tensor, "task_loss() returned", "a tensor: a scalar, or [B]")
        if loss.shape not in ((), (len(x_hat),)):
            raise TrainingError(
                f"{self.who}: task_loss() has shape {tuple(loss.shape)}, expected a scalar or one "
                f"value for each of the {len(x_hat)} pictures; take the mean over pixels and "
                "channels"
            )
        # 0 without a gradient is right for a picture that has nothing of the task.
        if x_hat.requires_grad and not loss.requires_grad and bool(loss.any()):
            raise TrainingError(
                f"{self.who}: no gradient goes from task_loss() to x_hat, so the path learns "
                "nothing of the task; leave out detach(), torch.no_grad(), argmax and rounding on "
                "the way"
            )
        return loss

    def reader_loss(self, images: Tensor) -> Callable[[Tensor], Tensor] | None:
        """Call :meth:`Recipe.reader_loss`; the function's own calls are of the recipe, too.

        Raises:
            TrainingError: it returns neither a function nor None, or the function no tensor.
        """
        with self._calling("reader_loss"):
            loss = self.recipe.reader_loss(images)
        if loss is None:
            return None
        function: Any = Callable  # abstract, which isinstance does not mind
        expected = "a function of decoded pictures, or None"
        self._expect(loss, function, "reader_loss() returned", expected)

        def called(x_hat: Tensor) -> Tensor:
            with self._calling("the function of reader_loss"):
                found = loss(x_hat)
            what = "the function of reader_loss() returned"
            return self._expect(found, Tensor, what, "a tensor [B]")

        return called

    def dataset(self, root: Path, split: Split, crop: int | None) -> Sequence[Sample]:
        """Call :meth:`Recipe.dataset`; asking for a sample later is a call of the recipe, too.

        Raises:
            TrainingError: it returns no sequence, or an item of that is no sample.
        """
        with self._calling("dataset"):
            samples = self.recipe.dataset(root, split, crop)
            sized = hasattr(samples, "__len__") and hasattr(samples, "__getitem__")
        if not sized:
            raise TrainingError(
                f"{self.who}: dataset() returned {shown(samples)}, expected a sequence of "
                "mpa_core.Sample; give it __len__ and __getitem__"
            )
        with self._calling("dataset"):
            return _Samples(self, samples)

    def metrics(self) -> Mapping[str, Metric]:
        """Call :meth:`Recipe.metrics`.

        Raises:
            TrainingError: what it returns is not a mapping of names to metrics.
        """
        with self._calling("metrics"):
            found = dict(self.recipe.metrics())
        for name, metric in found.items():
            what = f"metrics() has {shown(name)}:"
            self._expect(name, str, what, "names that are text")
            self._expect(metric, Metric, what, "a mpa_core.Metric")
        return found

    def _expect(self, found: object, kind: type[Value], what: str, expected: str) -> Value:
        if isinstance(found, kind):
            return found
        raise TrainingError(
            f"{self.who}: {what} {shown(found)}, expected {expected}; see docs/spec/plugin-api.md"
        )

    def _calling(self, hook: str) -> AbstractContextManager[None]:
        return foreign_code(f"{self.who}: {hook}() failed")


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
            found = self._samples[index]
        sample = self._calls._expect(found, Sample, "dataset() has", "a mpa_core.Sample")
        what = "dataset() has a Sample whose target is"
        names: Any = Mapping  # abstract, which isinstance does not mind
        target = self._calls._expect(sample.target, names, what, "a dict of names to tensors")
        for name, value in target.items():
            self._calls._expect(value, Tensor, f"target {name!r} is", "a tensor: torch.tensor(…)")
        return sample
