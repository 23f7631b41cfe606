"""The pictures to measure on: plain photos, and those of each task's recipe.

A task whose test pictures are the photos themselves shares their files and reconstructions; one
with pictures of its own (composites with exact masks) gets a set of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpa_core.errors import ConfigError, TrainingError
from mpa_core.evaluation.kept import digest
from mpa_core.evaluation.results import PHOTOS, MetricInfo, PictureSet, value_reference
from mpa_core.tasks.datasets import Sample, WholePhotos
from mpa_core.tasks.photos import undamaged
from mpa_core.tasks.recipe import Metric, collate
from mpa_core.training.recipe_calls import RecipeCalls

_MEAN = Metric.__dataclass_fields__["value"].default


@dataclass(frozen=True)
class Task:
    """A recipe's metrics on samples."""

    name: str
    samples: Sequence[Sample]
    """The recipe's."""
    chosen: list[int]
    """Which of them are measured."""
    metrics: dict[str, Metric]
    """Column (``"cls/agreement"``) -> metric."""
    source: dict[str, Any]

    def infos(self) -> list[MetricInfo]:
        """How to read the columns."""
        return [
            MetricInfo(
                name,
                metric.label or name,
                metric.higher_is_better,
                None if metric.value is _MEAN else value_reference(metric.value),
                self.source,
            )
            for name, metric in self.metrics.items()
        ]

    @torch.inference_mode()
    def statistics(self, index: int, x_hat: Tensor, quality: float) -> dict[str, list[float]]:
        """What picture ``index`` of the set adds to each metric.

        ``x_hat`` [1, 3, H, W] in [0, 1].
        """
        level = torch.tensor([quality], dtype=torch.float32)
        batch = collate([self.samples[self.chosen[index]]], level).to(x_hat.device)
        return {
            name: _short(metric.per_picture(x_hat, batch)[0])
            for name, metric in self.metrics.items()
        }


@dataclass(frozen=True)
class MeasuredSet:
    """Pictures in memory with the tasks that judge their reconstructions."""

    about: PictureSet
    images: list[NDArray[np.uint8]]
    """RGB [H, W, 3] each."""
    tasks: list[Task] = field(default_factory=list)
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How many files and folders of the photos' folder were not taken, by why."""

    @property
    def key(self) -> str:
        """Of the pictures."""
        return self.about.key

    @property
    def columns(self) -> list[str]:
        """Of the tasks' metrics."""
        return [name for task in self.tasks for name in task.metrics]


def collect(
    folder: Path,
    tasks: Sequence[str],
    device: torch.device,
    *,
    limit: int | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[MeasuredSet]:
    """The photos of ``folder``, and the test pictures of each task's recipe made from it.

    Damaged ones are left out with a warning.

    Args:
        folder: photos.
        tasks: names of paths whose recipe judges.
        device: of the task models.
        limit: only the first so many pictures of each set.
        settings: task -> options of its recipe.

    Raises:
        ConfigError: options that a recipe does not know, or of a task that is not in ``tasks``.
        TrainingError: no photos, or a path without a recipe.
        PathNotFoundError, PluginError, MissingDependencyError: a recipe that cannot be used.
    """
    photos = WholePhotos(folder)
    names = [path.relative_to(folder).as_posix() for path in photos.paths]
    plain, _ = _measured(PHOTOS, photos, names, limit)
    plain = replace(plain, left_out=dict(photos.photos.left_out))
    sets = {plain.key: plain}
    options = dict(settings or {})
    if unknown := options.keys() - set(tasks):
        raise ConfigError(
            f"options for {', '.join(sorted(unknown))}, which is no task of this run; tasks: "
            f"{', '.join(tasks) or 'none'}"
        )
    for name in tasks:
        recipe = RecipeCalls(name, options.get(name))
        recipe.setup(device)
        samples = recipe.dataset(folder, "test", None)
        found, chosen = _measured(name, samples, None, limit)
        found = sets.setdefault(found.key, found)
        found.tasks.append(_task(name, recipe, samples, chosen))
    return list(sets.values())


def _measured(
    name: str, samples: Sequence[Sample], names: list[str] | None, limit: int | None
) -> tuple[MeasuredSet, list[int]]:
    """The set, and which of ``samples`` are in it."""
    images = {i: sample.image for i, sample in islice(undamaged(samples), limit)}
    if not images:
        raise TrainingError(f"set {name!r} has no pictures; give a folder of photos")
    about = PictureSet(
        name=name,
        names=[names[i] if names else f"{name}-{i:04d}" for i in images],
        digests=[digest(image) for image in images.values()],
        sizes=[(image.shape[1], image.shape[0]) for image in images.values()],
    )
    return MeasuredSet(about, list(images.values())), list(images)


def _task(name: str, calls: RecipeCalls, samples: Sequence[Sample], chosen: list[int]) -> Task:
    # PSNR is measured for every picture anyway, on the same 8-bit pictures.
    metrics = {f"{name}/{key}": metric for key, metric in calls.metrics().items() if key != "psnr"}
    recipe = calls.recipe
    # As JSON gives it back: on resuming it is compared with what was stored.
    options = recipe.settings.model_dump(mode="json")
    # Folders by name alone: what is in them is known by the pictures' digests.
    options |= {key: value.name for key, value in recipe.settings if isinstance(value, Path)}
    source = {"recipe": type(recipe).__qualname__, **options}
    return Task(name, samples, chosen, metrics, source)


def _short(statistics: Tensor) -> list[float]:
    """As numbers that JSON keeps short: counts are whole."""
    values = [float(value) for value in statistics]
    return [int(value) if value.is_integer() else float(f"{value:.8g}") for value in values]
