"""NanoDet-g, a small one-stage object detector for COCO's 80 classes, as a plain torch network.

The architecture is model "g" at 416 x 416 of https://github.com/RangiLyu/nanodet (Apache-2.0);
batch normalisation is folded into the convolutions. ``tools/convert_nanodet.py`` makes the weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from mpa_core.errors import CheckpointError
from mpa_plugin_detection.classes import CLASSES

WEIGHTS = Path(__file__).parent / "models" / "nanodet-g-416.safetensors"
"""The bundled weights, in half precision as they were published."""

STRIDES = (8, 16, 32)

BINS = 11
"""A side of a box is a distribution over 0, 1, ..., 10 strides from its anchor point."""

# Of red, green, blue, on the 0-255 scale; the network takes blue first.
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)


class Predictions(NamedTuple):
    """What the network says at N anchor points, those of all strides one after the other."""

    logits: Tensor
    """[B, N, CLASSES]; the sigmoid of each is the class's score, which is its expected IoU."""
    sides: Tensor
    """[B, N, 4, BINS]: logits of the distances to the left, top, right and bottom side."""
    features: tuple[Tensor, ...]
    """[B, 128, h, w] at each stride: what the last layers read."""


class Convolution(nn.Sequential):
    """A 3 x 3 convolution and a leaky rectifier."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.LeakyReLU(0.1))


class Residual(nn.Module):
    """Two convolutions whose outputs are put side by side, ``width`` channels in and out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = Convolution(width, width // 2)
        self.second = Convolution(width // 2, width // 2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, h, w] -> the same shape."""
        x = self.first(x)
        return torch.cat([self.second(x), x], dim=1)


class Stage(nn.Module):
    """A cross-stage partial block: what enters goes on beside what the blocks make of it."""

    def __init__(self, inputs: int, width: int, blocks: int, stride: int) -> None:
        super().__init__()
        self.enter = Convolution(inputs, width, stride)
        self.blocks = nn.Sequential(*(Residual(width) for _ in range(blocks)))
        self.leave = Convolution(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] -> [B, 2 width, h / stride, w / stride]."""
        x = self.enter(x)
        return torch.cat([self.leave(self.blocks(x)), x], dim=1)


class NanoDet(nn.Module):
    """The detector. Random weights; :func:`load_nanodet` has the trained ones."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, 32, stride=2)
        self.stages = nn.ModuleList(
            [
                Stage(32, 32, 1, stride=1),
                Stage(64, 64, 2, stride=2),
                Stage(128, 128, 2, stride=2),
                Stage(256, 256, 3, stride=2),
            ]
        )
        width = 128
        self.laterals = nn.ModuleList(nn.Conv2d(inputs, width, 1) for inputs in (128, 256, 512))
        self.heads = nn.ModuleList(
            nn.Sequential(Convolution(width, width), nn.Conv2d(width, len(CLASSES) + 4 * BINS, 1))
            for _ in STRIDES
        )
        for key, values in (("mean", _MEAN), ("std", _STD)):
            tensor = torch.tensor(values).view(1, 3, 1, 1) / 255
            self.register_buffer(key, tensor, persistent=False)

    def forward(self, x: Tensor) -> Predictions:
        """Pictures [B, 3, H, W], RGB, nominally in [0, 1], H and W multiples of 32."""
        x = ((x - self.mean) / self.std).flip(1)
        x = F.max_pool2d(self.stem(x), 3, 2, 1)
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        fine, middle, coarse = (
            lateral(level) for lateral, level in zip(self.laterals, levels[1:], strict=True)
        )
        # From coarse to fine and back, by addition of resized maps.
        middle = middle + _resized(coarse, middle)
        fine = fine + _resized(middle, fine)
        middle = middle + _resized(fine, middle)
        coarse = coarse + _resized(middle, coarse)
        features = (fine, middle, coarse)
        found = [
            head(level).flatten(2).transpose(1, 2)
            for head, level in zip(self.heads, features, strict=True)
        ]
        both = torch.cat(found, dim=1)
        sides = both[..., len(CLASSES) :].reshape(len(x), -1, 4, BINS)
        return Predictions(both[..., : len(CLASSES)], sides, features)


def anchor_points(height: int, width: int, device: torch.device) -> Tensor:
    """Where the predictions for a picture stand, [N, 3]: x and y in pixels, and the stride."""
    rows = []
    for stride in STRIDES:
        y, x = (
            (torch.arange(length // stride, device=device) + 0.5) * stride
            for length in (height, width)
        )
        grid = torch.meshgrid(y, x, indexing="ij")
        rows.append(torch.stack([grid[1], grid[0], torch.full_like(grid[0], stride)], -1))
    return torch.cat([row.flatten(0, 1) for row in rows])


def boxes_of(sides: Tensor, points: Tensor) -> Tensor:
    """The boxes that distributions stand for: the mean distance of each side.

    Args:
        sides: logits [..., N, 4, BINS].
        points: [N, 3], of :func:`anchor_points`.

    Returns:
        [..., N, 4]: left, top, right and bottom in pixels; may lie beyond the picture.
    """
    bins = torch.arange(BINS, device=sides.device, dtype=sides.dtype)
    distance = (sides.softmax(-1) * bins).sum(-1) * points[:, 2:]
    centre = points[:, :2]
    return torch.cat([centre - distance[..., :2], centre + distance[..., 2:]], dim=-1)


def load_nanodet(path: Path = WEIGHTS) -> NanoDet:
    """The detector with the weights of ``path``, in float32 on the CPU, in eval mode.

    Raises :class:`CheckpointError` if they are not its weights.
    """
    net = NanoDet()
    try:
        state = load_file(path)
        net.load_state_dict({key: value.float() for key, value in state.items()})
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: not the weights of NanoDet-g ({error}); expected the file that "
            "tools/convert_nanodet.py writes; reinstall mpa-plugin-detection"
        ) from error
    return net.eval()


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)
