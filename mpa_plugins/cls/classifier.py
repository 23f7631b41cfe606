"""A frozen classifier for pictures in [0, 1] of any size, and views of a picture for it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpa_core.tasks import image_model


class Classifier(nn.Module):
    """An ImageNet classifier with its own preprocessing, by its data configuration in timm.

    Args:
        name: a name that :func:`mpa_core.tasks.image_model` takes; the errors are the same.

    Attributes:
        size: (height, width) that pictures are resized to.
        crop_share: share of the resized picture's shorter side that the usual centre view shows.
        classes: number of logits.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        net = image_model(name)
        from timm.data import resolve_data_config

        config: dict[str, Any] = resolve_data_config({}, model=net)
        self.name = name
        self.net = net
        self.size: tuple[int, int] = tuple(config["input_size"][1:])
        self.crop_share = float(config["crop_pct"])
        self.mode = "bilinear" if config["interpolation"] == "bilinear" else "bicubic"
        self.classes = int(net.num_classes)
        for key in ("mean", "std"):
            values = torch.tensor(config[key], dtype=torch.float32).view(1, -1, 1, 1)
            self.register_buffer(key, values, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, classes] for pictures [B, 3, H, W], nominally in [0, 1]."""
        x = self._resize(x, self.size)
        return self.net(((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last))

    def centre_view(self, x: Tensor) -> Tensor:
        """Return the middle of pictures [B, 3, H, W] as views [B, 3, *size].

        Classifiers are usually tested on this view.
        """
        height, width = x.shape[-2:]
        scale = max(self.size[0] / height, self.size[1] / width) / self.crop_share
        x = self._resize(x, (round(height * scale), round(width * scale)))
        top, left = (
            (whole - part) // 2 for whole, part in zip(x.shape[-2:], self.size, strict=True)
        )
        return x[..., top : top + self.size[0], left : left + self.size[1]]

    def _resize(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        if x.shape[-2:] == size:
            return x
        return F.interpolate(x, size, mode=self.mode, align_corners=False, antialias=True)


def tiles(x: Tensor, side: int, stride: int) -> Tensor:
    """Cut square views from one picture.

    Args:
        x: [3, H, W].
        side: side of a view; a shorter side of the picture is taken whole.
        stride: largest distance between neighbouring views. They are spread evenly from border to
            border, so every pixel is in at least one.

    Returns:
        [N, 3, min(H, side), min(W, side)].
    """
    height, width = x.shape[-2:]
    rows, columns = _starts(height, side, stride), _starts(width, side, stride)
    return torch.stack([x[:, r : r + side, c : c + side] for r in rows for c in columns])


def _starts(length: int, side: int, stride: int) -> list[int]:
    last = max(0, length - side)
    count = -(-last // stride) + 1
    return [round(last * i / max(1, count - 1)) for i in range(count)]
