"""The pictures to measure on: plain photos, and those of each task's recipe.

A task whose test pictures are the photos themselves shares their files and reconstructions; one
with pictures of its own (composites with exact masks) gets a set of its own. Where the protocol
makes other pictures of the photos, recipes are given those as their photos.
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

from mpa_core.checkpoints import split_named
from mpa_core.errors import ConfigError, TrainingError
from mpa_core.evaluation.kept import digest
from mpa_core.evaluation.picture_set import PictureSet
from mpa_core.evaluation.protocols import WHOLE, CutPhotos, Protocol, cut_photos
from mpa_core.evaluation.results import PHOTOS, MetricInfo
from mpa_core.plugins.registry import registry
from mpa_core.tasks.datasets import WholePhotos
from mpa_core.tasks.metric import PSNR, Metric
from mpa_core.tasks.photos import undamaged
from mpa_core.tasks.recipe_calls import RecipeCalls
from mpa_core.tasks.samples import Sample, collate


@dataclass(frozen=True)
class Task:
    """The metrics of a recipe on its samples."""

    name: str
    samples: Sequence[Sample]
    """The samples of the recipe."""
    chosen: list[int]
    """Indexes of the samples that are measured."""
    metrics: dict[str, Metric]
    """Metrics by column (``"cls/agreement"``)."""
    source: dict[str, Any]

    def infos(self) -> list[MetricInfo]:
        """Return the descriptions of the columns."""
        return [
            MetricInfo.of(name, metric, source=self.source, task=self.name)
            for name, metric in self.metrics.items()
        ]

    @torch.inference_mode()
    def statistics(self, index: int, x_hat: Tensor, quality: float) -> dict[str, list[float]]:
        """Return the statistics that picture ``index`` of the set adds to each metric.

        ``x_hat`` is [1, 3, H, W] in [0, 1].
        """
        level = torch.tensor([quality], dtype=torch.float32)
        batch = collate([self.samples[self.chosen[index]]], level).to(x_hat.device)
        return {
            name: _short(metric.per_picture(x_hat, batch)[0])
            for name, metric in self.metrics.items()
        }


@dataclass(frozen=True)
class MeasuredSet:
    """Pictures in memory, and the tasks whose metrics measure their reconstructions."""

    about: PictureSet
    images: list[NDArray[np.uint8]]
    """RGB [H, W, 3] each."""
    tasks: list[Task] = field(default_factory=list)
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Number of files and folders in the photos' folder that were not taken, by reason."""

    @property
    def key(self) -> str:
        """16 hex digits that identify the pictures."""
        return self.about.key

    @property
    def columns(self) -> list[str]:
        """Names of the columns of the tasks' metrics."""
        return [name for task in self.tasks for name in task.metrics]


def collect(
    folder: Path,
    tasks: Sequence[str],
    device: torch.device,
    *,
    limit: int | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    protocol: Protocol = WHOLE,
    store: Path | None = None,
) -> list[MeasuredSet]:
    """Return the pictures of ``folder``, and each recipe's test pictures made from it, as sets.

    Damaged pictures are left out with a warning.

    Args:
        folder: folder of photos.
        tasks: names of paths whose recipe has metrics to measure. ``OTHER=NAME`` is called
            ``OTHER``, and ``distribution:name`` is called ``name``.
        device: device of the task models.
        limit: largest number of pictures of each set; None for all. Where the protocol makes
            other pictures of the photos, it is the largest number of photos.
        settings: options of each task's recipe, by what the task is called.
        protocol: what is coded of each photo.
        store: folder for the pictures that the protocol makes, which :data:`WHOLE` needs not.

    Raises:
        ConfigError: options that a recipe does not know, or of a task that is not in ``tasks``; two
            tasks of one name; a recipe that does not make as many samples of each picture.
        TrainingError: no photos, or a path without a recipe.
        OutputError: the pictures cannot be written.
        PathNotFoundError, PluginError, MissingDependencyError: a recipe cannot be used.
    """
    cut = None
    if protocol.kind.cut is not None:
        assert store is not None
        cut = cut_photos(folder, protocol, store, limit)
        folder, limit = cut.folder, None
    photos = WholePhotos(folder)
    names = [path.relative_to(folder).as_posix() for path in photos.paths]

    def measured(
        name: str, samples: Sequence[Sample], given: list[str] | None = None
    ) -> tuple[MeasuredSet, list[int]]:
        found, chosen = _measured(name, samples, given, limit)
        photo_of = None if cut is None else _photo_of(name, chosen, len(samples), names, cut)
        about = replace(found.about, protocol=str(protocol), photos=photo_of)
        return replace(found, about=about), chosen

    plain, _ = measured(PHOTOS, photos, names)
    left_out = photos.photos.left_out if cut is None else cut.left_out
    plain = replace(plain, left_out=dict(left_out))
    sets = {plain.key: plain}
    options = dict(settings or {})
    named = _named(tasks)
    if unknown := options.keys() - named.keys():
        raise ConfigError(
            f"options for {', '.join(sorted(unknown))}, which is no task of this run; tasks: "
            f"{', '.join(named) or 'none'}"
        )
    for name, source in named.items():
        recipe = RecipeCalls(source, options.get(name))
        recipe.setup(device)
        samples = recipe.dataset(folder, "test", None)
        found, chosen = measured(name, samples)
        found = sets.setdefault(found.key, found)
        found.tasks.append(_task(name, recipe, samples, chosen))
    return list(sets.values())


def _named(tasks: Sequence[str]) -> dict[str, str]:
    """Return by plain name the path of each task."""
    found: dict[str, str] = {}
    for task in tasks:
        name, source = split_named(task)
        name = name or source.rpartition(":")[2]
        if found.setdefault(name, source) != source:
            raise ConfigError(
                f"tasks {found[name]} and {source} would both be called {name!r}; give one of "
                f"them another name: OTHER={source}"
            )
    return found


def _measured(
    name: str, samples: Sequence[Sample], names: list[str] | None, limit: int | None
) -> tuple[MeasuredSet, list[int]]:
    """Return the set, and the indexes of the ``samples`` in it."""
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


def _photo_of(
    name: str, chosen: Sequence[int], samples: int, pictures: Sequence[str], cut: CutPhotos
) -> list[str]:
    """Return the photo that each of the ``chosen`` of so many samples is of.

    As :class:`mpa_core.tasks.PhotoSamples` has it, samples follow the order of the pictures, the
    same number of each.
    """
    per_picture, rest = divmod(samples, len(pictures))
    if rest or not per_picture:
        raise ConfigError(
            f"set {name!r}: its recipe makes {samples} samples of {len(pictures)} pictures, so "
            "that nobody can tell which photo each is of; expected the same number of samples of "
            "every picture, in their order: measure it by --protocol whole"
        )
    return [cut.photos[pictures[index // per_picture]] for index in chosen]


def _task(name: str, calls: RecipeCalls, samples: Sequence[Sample], chosen: list[int]) -> Task:
    # PSNR is measured for every picture anyway, on the same 8-bit pictures.
    metrics = {f"{name}/{key}": metric for key, metric in calls.metrics().items() if key != PSNR}
    recipe = calls.recipe
    # As read back from JSON, since on resuming it is compared with the stored options.
    options = recipe.settings.model_dump(mode="json")
    # Folders by name alone, since the pictures' digests identify their contents.
    options |= {key: value.name for key, value in recipe.settings if isinstance(value, Path)}
    source = {"recipe": type(recipe).__qualname__, **options}
    path = registry().get(calls.name)
    if (called := registry().name_of(path)) != path.name:  # another's recipe may be of that name
        source["path"] = called
    return Task(name, samples, chosen, metrics, source)


def _short(statistics: Tensor) -> list[float]:
    """Convert to numbers that are short in JSON: counts become integers."""
    values = [float(value) for value in statistics]
    return [int(value) if value.is_integer() else float(f"{value:.8g}") for value in values]
