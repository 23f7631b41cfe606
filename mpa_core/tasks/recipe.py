"""A recipe is a plugin's part in training a path: data, task model, loss, metrics, defaults.

The contract is written out in ``docs/spec/plugin-api.md``. Everything else (latents, routing,
optimiser, checkpoints, export) is done for it by the training of stage 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from mpa_core.config import StrictModel
from mpa_core.errors import PluginError, TrainingError
from mpa_core.plugins.registry import load_target, registry
from mpa_core.tasks.datasets import PhotoCrops, WholePhotos
from mpa_core.tasks.metric import PSNR, Metric, psnr_metric
from mpa_core.tasks.samples import PathBatch, Sample
from mpa_core.tasks.settings import CropSettings

Split = Literal["train", "val", "test"]
Frozen = TypeVar("Frozen", bound=nn.Module)


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
    distortion alone, for the lowest mean squared error.

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
    data: CropSettings
    seed: int

    def __init__(
        self,
        settings: StrictModel | Mapping[str, Any] | None = None,
        *,
        data: CropSettings | None = None,
        seed: int = 0,
    ) -> None:
        if not isinstance(settings, self.Settings):
            tree = settings.model_dump() if isinstance(settings, StrictModel) else settings
            settings = self.Settings.parse(tree or {}, source=f"recipe {type(self).__name__}")
        self.settings = settings
        self.data = data if data is not None else CropSettings()
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
        """The figures that the path is judged by, on whole pictures: name -> metric.

        A metric of a fixed input size cuts the picture into views itself.
        """
        return {PSNR: psnr_metric()}


def load_recipe(name: str) -> type[Recipe]:
    """The recipe registered with path ``name``.

    Raises:
        PathNotFoundError: no such path.
        TrainingError: the path has no recipe.
        PluginError: the recipe cannot be imported, or is no :class:`Recipe`.
    """
    found = registry().get(name)
    found.require_sdk()
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
