"""The recipe of the ``seg`` path: equation (9) with a frozen segmentation network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mpa_core.config import StrictModel
from mpa_core.errors import ConfigError
from mpa_core.tasks import (
    PERCENT,
    Metric,
    PathBatch,
    PhotoSamples,
    Recipe,
    Sample,
    Split,
    freeze,
    psnr_metric,
)
from mpa_plugins.seg.composites import Composites
from mpa_plugins.seg.masked import MaskedPhotos
from mpa_plugins.seg.network import HEADS, load_head
from mpa_plugins.seg.scores import IGNORED, cross_entropy, intersections_and_unions, mean_iou
from mpa_plugins.seg.stamps import STAMPS, load_stamps
from mpa_plugins.small_machine import SMALL_MACHINE


class SegRecipe(Recipe):
    """Training on any folder of photos with pasted cut-outs, whose masks are exact.

    The test pictures show cut-outs that neither networks nor paths were trained with. With
    ``masks`` photos are used as they are, with labels from files.
    """

    class Settings(StrictModel):
        """Options of the recipe."""

        model: str = "efficientnet-lite0"
        """Network to train with: the name of a head that comes with the package, a file that
        ``python -m mpa_plugins.seg.train_head`` wrote, or ``module:factory``. A factory is called
        without arguments and returns a module that takes pictures [B, 3, H, W] in [0, 1] (it
        normalises them itself) and returns logits [B, K, h, w], or a mapping with ``out`` and
        perhaps ``aux``, as torchvision's models do."""
        judge: str | None = "efficientnet-lite2"
        """Network of the same kinds for the metrics alone, not used in training; null leaves it
        out."""
        aux_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.4
        """Weight of the loss of an auxiliary output, if the network has one."""
        stamps: Path = Path(STAMPS)
        """Folder of Tux Paint's stamps (Debian: tuxpaint-stamps-default)."""
        masks: Path | None = None
        """Folder of label maps for the photos, instead of pasted stamps."""
        first_label: Annotated[int, Field(ge=0, le=254)] = 0
        """Value of class 0 in the label maps; 1 for ADE20K, where 0 is no class."""

    defaults: ClassVar[Mapping[str, Any]] = {
        **SMALL_MACHINE,
        # Most pixels are background and easy: their mean loss is a tenth of a classifier's.
        "loss": {**SMALL_MACHINE["loss"], "task_weight": 10.0, "distortion_weight": 0.5},
    }

    settings: Settings

    def setup(self, device: torch.device) -> None:
        """Build the frozen segmentation network.

        Raises:
            ConfigError, CheckpointError, MissingDependencyError: as :func:`load_model`.
        """
        self.device = device
        self.model = freeze(load_model(self.settings.model).to(device))

    def task_loss(self, x_hat: Tensor, batch: PathBatch) -> Tensor:
        """Return the cross-entropy of each picture [B], a mean over pixels."""
        mask = batch.targets["mask"]
        found = self.model(x_hat)
        loss = cross_entropy(_main_logits(found, mask, self.settings.model), mask)
        if isinstance(found, Mapping) and "aux" in found:
            loss = loss + self.settings.aux_weight * cross_entropy(found["aux"], mask)
        return loss

    def reader_loss(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the divergence of the network's answers from those on ``images``.

        It is that of Kullback and Leibler, [B], a mean over the network's own pixels.
        """
        with torch.no_grad():
            wanted = _logits(self.model(images)).log_softmax(1)

        def divergence(x_hat: Tensor) -> Tensor:
            found = _logits(self.model(x_hat)).log_softmax(1)
            apart = F.kl_div(found, wanted, reduction="none", log_target=True)
            return apart.sum(1).flatten(1).mean(1)

        return divergence

    def dataset(self, root: Path, split: Split, crop: int | None) -> Sequence[Sample]:
        """Return photos with pasted cut-outs, or with masks from files; see :class:`Recipe`."""
        settings = self.settings
        photos = super().dataset(root, split, crop)
        if settings.masks is not None:
            assert isinstance(photos, PhotoSamples)
            return MaskedPhotos(photos, root, settings.masks, first_label=settings.first_label)
        stamps = load_stamps(settings.stamps, "test" if split == "test" else "train")
        # The pictures for metrics do not change with the seed of a training.
        seed = self.seed if split == "train" else 0
        return Composites(photos, stamps, seed=seed)

    def metrics(self) -> Mapping[str, Metric]:
        """Return the mean intersection over union with each network, and PSNR."""
        settings = self.settings
        found = {"miou": _miou(self.model, settings.model)}
        if settings.judge is not None:
            judge = freeze(load_model(settings.judge).to(self.device))
            found["miou_unseen"] = _miou(judge, settings.judge)
        return {**found, "psnr": psnr_metric()}


def load_model(name: str) -> nn.Module:
    """Return the network that ``name`` stands for in the settings, on the CPU.

    Raises:
        ConfigError: it stands for none.
        CheckpointError, MissingDependencyError: as :func:`load_head`.
    """
    bundled = HEADS / f"{name}.safetensors"
    if bundled.is_file():
        return load_head(bundled)
    if name.endswith(".safetensors"):
        return load_head(Path(name))
    module, colon, factory = name.partition(":")
    if not colon:
        known = ", ".join(sorted(path.stem for path in HEADS.glob("*.safetensors")))
        raise ConfigError(
            f"{name!r} is no segmentation network; expected one of {known}, a .safetensors file "
            "of python -m mpa_plugins.seg.train_head, or module:factory"
        )
    try:
        network = getattr(import_module(module), factory)()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{name!r} cannot be imported ({error}); expected module:factory of a segmentation "
            "network, installed or on PYTHONPATH"
        ) from error
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"{name!r} gave {type(network).__name__}; expected a factory of a torch module"
        )
    return network


def _logits(found: Tensor | Mapping[str, Tensor]) -> Tensor:
    """Return the main output of a network, [B, K, h, w]."""
    return found["out"] if isinstance(found, Mapping) else found


def _main_logits(found: Tensor | Mapping[str, Tensor], mask: Tensor, name: str) -> Tensor:
    logits = _logits(found)
    counted = mask[mask != IGNORED]
    largest = int(counted.max()) if counted.numel() else 0
    if largest >= logits.shape[1]:
        raise ConfigError(
            f"segmentation network {name!r} has {logits.shape[1]} classes and the masks have label "
            f"{largest}; take a network for these labels, or set recipe.first_label"
        )
    return logits


def _miou(model: nn.Module, name: str) -> Metric:
    def statistics(x_hat: Tensor, batch: PathBatch) -> Tensor:
        mask = batch.targets["mask"]
        logits = _main_logits(model(x_hat.clamp(0, 1)), mask, name)
        return intersections_and_unions(logits, mask)

    return Metric(
        statistics, higher_is_better=True, value=mean_iou, label=f"mIoU ({name})", unit=PERCENT
    )
