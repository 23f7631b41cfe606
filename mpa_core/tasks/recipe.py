"""What a plugin supplies to train a path: data, a frozen task model, a loss, metrics, defaults.

The contract is written out in ``docs/spec/plugin-api.md``. Everything else (latents, routing,
optimiser, checkpoints, export) is done for it by :mod:`mpa_core.training.objectives.path`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from mpa_core.config import StrictModel
from mpa_core.errors import PluginError, TrainingError
from mpa_core.plugins.registry import load_target, registry
from mpa_core.tasks.datasets import PhotoCrops, Sample, WholePhotos
from mpa_core.training.objectives.losses import squared_error_255

if TYPE_CHECKING:
    from mpa_core.training.settings.path import PathDataSettings

__all__ = [
    "Metric",
    "PathBatch",
    "PhotoCrops",
    "Recipe",
    "Sample",
    "WholePhotos",
    "collate",
    "freeze",
    "load_recipe",
    "psnr_metric",
]

Split = Literal["train", "val", "test"]
Frozen = TypeVar("Frozen", bound=nn.Module)


@dataclass(frozen=True)
class PathBatch:
    """The originals that a batch of reconstructions is compared with."""

    images: Tensor
    """[B, 3, H, W] float32 in [0, 1]."""
    targets: Mapping[str, Tensor]
    """[B, ...] each: the samples' targets, stacked."""
    quality: Tensor
    """[B] float32, 1..levels: the quality each picture was coded at."""

    def to(self, device: torch.device | str) -> PathBatch:
        """The same batch on ``device``."""
        targets = {name: value.to(device) for name, value in self.targets.items()}
        return PathBatch(self.images.to(device), targets, self.quality.to(device))


def collate(samples: Sequence[Sample], quality: Tensor) -> PathBatch:
    """Stack ``samples``, all of one size and with the same targets; ``quality`` is [B].

    Raises :class:`TrainingError` if they cannot be stacked.
    """
    shapes = {(sample.image.shape, str(sample.image.dtype)) for sample in samples}
    names = {frozenset(sample.target) for sample in samples}
    if len(shapes) != 1 or len(names) != 1 or next(iter(shapes))[1] != "uint8":
        raise TrainingError(
            f"the recipe's samples cannot be one batch: images {sorted(shapes)}, targets "
            f"{sorted(map(sorted, names))}; dataset() must give uint8 pictures of one size and "
            "the same targets for all"
        )
    # A channels-last tensor and an NHWC array are the same bytes.
    pixels = torch.from_numpy(np.stack([sample.image for sample in samples]))
    images = pixels.permute(0, 3, 1, 2).float().div_(255.0)
    try:
        targets = {
            name: torch.stack([sample.target[name] for sample in samples])
            for name in sorted(samples[0].target)
        }
    except (RuntimeError, TypeError) as error:
        raise TrainingError(
            f"the recipe's targets cannot be stacked: {error}; dataset() must give tensors of one "
            "shape for each name"
        ) from error
    return PathBatch(images, targets, quality)


def _mean(totals: Tensor) -> float:
    return float(totals[0] / totals[1])


@dataclass(frozen=True)
class Metric:
    """A figure about reconstructions that is additive over pictures, up to a last step.

    Additive, so that one pass over the pictures serves the figure, its confidence interval (by
    drawing pictures again) and the paired difference of two codecs.
    """

    statistics: Callable[[Tensor, PathBatch], Tensor]
    """(x_hat [B, 3, H, W] in [0, 1], batch) -> [B, K], what each picture adds to the totals; [B]
    is short for (value, 1), whose default ``value`` is the mean over pictures."""
    higher_is_better: bool
    value: Callable[[Tensor], float] = _mean
    """Totals [K] -> the figure."""
    label: str = ""
    """For tables and plots, with its unit: ``"top-1 agreement (EfficientNet-Lite0)"``."""

    def per_picture(self, x_hat: Tensor, batch: PathBatch) -> Tensor:
        """:attr:`statistics` as float64 [B, K] on the CPU, without gradients.

        Raises :class:`TrainingError` if they are of another shape.
        """
        with torch.no_grad():
            found = self.statistics(x_hat, batch).detach().double().cpu()
        if found.ndim == 1:
            found = torch.stack([found, torch.ones_like(found)], dim=1)
        if found.ndim != 2 or len(found) != len(x_hat):
            raise TrainingError(
                f"metric {self.label or 'without a label'}: statistics of shape "
                f"{tuple(found.shape)} for {len(x_hat)} pictures; expected [B] or [B, K]"
            )
        return found


def psnr_metric() -> Metric:
    """Mean over pictures of the PSNR in dB, of values in [0, 1]; at most 120 dB each."""

    def statistics(x_hat: Tensor, batch: PathBatch) -> Tensor:
        error = squared_error_255(batch.images, x_hat.clamp(0, 1)).double() / 255.0**2
        return -10 * torch.log10(error.clamp_min(1e-12))

    return Metric(statistics, higher_is_better=True, label="PSNR (dB)")


def freeze(module: Frozen) -> Frozen:
    """``module`` in eval mode and without gradients on its weights; gradients still pass through.

    What a recipe's :meth:`Recipe.setup` does with its task model.
    """
    module.eval()
    module.requires_grad_(False)
    return module


class Recipe:
    """How a path is trained; a plugin's recipe subclasses this and overrides what differs.

    As it stands it trains on any folder of photos without a task loss: equation (8) with the
    distortion alone, which is the ``mse`` path.

    Args:
        settings: an instance of ``Settings``, a mapping with its fields, or None for defaults.
        data: how photos become crops; None for the defaults.
        seed: of the crops.

    Raises:
        ConfigError: ``settings`` does not fit ``Settings``.

    Attributes:
        settings: options of the recipe, as in ``--set recipe.key=value``.
    """

    class Settings(StrictModel):
        """Options of the recipe; each has a default."""

    defaults: ClassVar[Mapping[str, Any]] = {}
    """Settings tree (``loss``, ``optim``, ``schedule``, ``data``, ``budget``, ``path``, ...) that
    is laid under the user's."""

    random: bool = False
    """Whether ``dataset`` gives another picture each time an index is asked for; then no latents
    are kept, and every step runs the encoder."""

    settings: Any
    data: PathDataSettings
    seed: int

    def __init__(
        self,
        settings: StrictModel | Mapping[str, Any] | None = None,
        *,
        data: PathDataSettings | None = None,
        seed: int = 0,
    ) -> None:
        from mpa_core.training.settings.path import PathDataSettings

        if not isinstance(settings, self.Settings):
            tree = settings.model_dump() if isinstance(settings, StrictModel) else settings
            settings = self.Settings.parse(tree or {}, source=f"recipe {type(self).__name__}")
        self.settings = settings
        self.data = data if data is not None else PathDataSettings()
        self.seed = seed

    def setup(self, device: torch.device) -> None:
        """Build the frozen task model on ``device``; called once, before anything but ``dataset``.

        Use :func:`freeze`. Raise :class:`MissingDependencyError` where its weights are not here.
        """

    def task_loss(self, x_hat: Tensor, batch: PathBatch) -> Tensor:
        """The task's loss on the reconstructions: a scalar, or one value per picture [B].

        ``x_hat`` [B, 3, H, W] is not clamped, so that a value outside [0, 1] keeps its gradient.
        Equation (9) adds distortion, perception and ratio.
        """
        return x_hat.new_zeros(len(batch.images))

    def dataset(self, root: Path, split: Split, crop: int | None) -> Sequence[Sample]:
        """Pictures below ``root``, by index.

        Args:
            root: what the user gave as ``--data`` (or ``--val``, or to ``mpa eval``).
            split: ``"train"``: pictures of ``crop`` pixels a side, several per photo;
                ``"val"``, ``"test"``: whole pictures of any size.
            crop: side in pixels; None for whole pictures.

        Unless ``random`` is set, an index gives the same sample every time.
        """
        if split == "train" and crop is not None:
            return PhotoCrops(
                root,
                crop,
                per_photo=self.data.crops_per_photo,
                seed=self.seed,
                flip=self.data.flip,
                transpose=self.data.transpose,
                scale=self.data.scale,
                cache_mib=self.data.cache_mib,
            )
        return WholePhotos(root, cache_mib=self.data.cache_mib)

    def metrics(self) -> Mapping[str, Metric]:
        """What the path is judged by, on whole pictures: name -> metric.

        A metric of a fixed input size cuts the picture into views itself.
        """
        return {"psnr": psnr_metric()}


def load_recipe(name: str) -> type[Recipe]:
    """The recipe registered with path ``name``.

    Raises:
        PathNotFoundError: no such path.
        TrainingError: the path has no recipe.
        PluginError: the recipe cannot be imported, or is no :class:`Recipe`.
    """
    found = registry().get(name)
    target = found.spec.recipe
    if target is None:
        raise TrainingError(
            f"task path {found.qualified_name!r} has no recipe, so it cannot be trained here; give "
            'its PathSpec one: recipe="module:Class"'
        )
    where = f"recipe of task path {found.qualified_name!r}: {target!r}"
    loaded = load_target(target, where)
    if not (isinstance(loaded, type) and issubclass(loaded, Recipe)):
        raise PluginError(f"{where} is {loaded!r}, expected a subclass of mpa_core.Recipe")
    return loaded
