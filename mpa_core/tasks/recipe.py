"""A recipe, a plugin's part in training a path: data, task model, loss, metrics, defaults.

``docs/spec/plugin-api.md`` specifies the contract. The training of stage 2 does everything else
(latents, routing, optimiser, checkpoints, export).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
"""Part of a data set: to train on, to validate on during training, or to judge by."""
Frozen = TypeVar("Frozen", bound=nn.Module)


def freeze(module: Frozen) -> Frozen:
    """Set ``module`` to eval mode without gradients on its weights, and return it.

    Gradients still pass through it. A recipe's :meth:`Recipe.setup` does this with its task model.
    """
    module.eval()
    module.requires_grad_(False)
    return module


class Recipe:
    """The way a path is trained; a plugin's recipe subclasses this and overrides what differs.

    Without changes it trains on any folder of photos without a task loss: equation (8) with the
    distortion alone, for the lowest mean squared error.

    Args:
        settings: an instance of ``Settings``, a mapping with its fields, or None for defaults.
        data: how photos become crops; None for the defaults.
        seed: seed of the crops.

    Raises:
        ConfigError: ``settings`` does not fit ``Settings``.

    Attributes:
        settings: options of the recipe, as in ``--set recipe.key=value``.
    """

    class Settings(StrictModel):
        """Options of the recipe; each has a default."""

    defaults: ClassVar[Mapping[str, Any]] = {}
    """Default settings (``loss``, ``optim``, ``schedule``, ``data``, ``budget``, ``path``, ...), as
    a tree, which the user's settings override."""

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
        """Build the frozen task model on ``device``; called once, before all hooks but ``dataset``.

        Use :func:`freeze`.

        Raises:
            MissingDependencyError: to be raised where the model's weights are not on this machine.
        """

    def task_loss(self, x_hat: Tensor, batch: PathBatch) -> Tensor:
        """Return the task's loss on the reconstructions: a scalar, or one value per picture [B].

        Equation (9) adds distortion, perception and ratio.

        Args:
            x_hat: [B, 3, H, W], not clamped, so that a value outside [0, 1] keeps its gradient.
            batch: the originals.
        """
        return x_hat.new_zeros(len(batch.images))

    def reader_loss(self, images: Tensor) -> Callable[[Tensor], Tensor] | None:
        """Return how badly the task is done on what is decoded of ``images``, without labels.

        A search for better symbols lowers it along with bits and squared error, where this path is
        the reader of a file: ``codec.encode(photo, effort=6, reader="det")``. The recipe is then
        made with default settings, and :meth:`setup` is called once before. What the task model
        says of the originals stands for labels. Compute it here and not in the function, which is
        called at every step.

        Args:
            images: the originals, [B, 3, H, W] float32 in [0, 1]: whole pictures of any size, down
                to one pixel, or large tiles of them. They must not be changed.

        Returns:
            None, the default, if there is no such loss. Else a function that takes the decoded
            pictures [B, 3, H, W], not clamped to [0, 1], and returns the loss of each, [B]: finite,
            differentiable, and smallest, best 0, where the pictures are the originals. It gives
            the same value each time, without a random draw.
        """

    def dataset(self, root: Path, split: Split, crop: int | None) -> Sequence[Sample]:
        """Return the pictures below ``root``, by index.

        Unless ``random`` is set, an index gives the same sample every time.

        Args:
            root: the folder that the user gave as ``--data`` (or ``--val``, or to ``mpa eval``).
            split: ``"train"``: pictures of ``crop`` pixels a side, several per photo; ``"val"``,
                ``"test"``: whole pictures of any size. Where ``mpa eval`` makes several pictures of
                a photo, ``root`` is a folder of those, and the samples must follow their order, the
                same number of each picture, so that it knows which photo each is of.
            crop: side in pixels; None for whole pictures.
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
        """Return the metrics, by name, that judge the path on whole pictures.

        A metric of a fixed input size cuts the picture into views itself.
        """
        return {PSNR: psnr_metric()}


def load_recipe(name: str) -> type[Recipe]:
    """Return the recipe class registered with path ``name``.

    Raises:
        PathNotFoundError: there is no such path.
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
