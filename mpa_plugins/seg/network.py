"""A small segmentation network: a feature pyramid decoder on a frozen image backbone.

Only the decoder is ours and is stored; the backbone's weights come from their publisher.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mpa_core.config import StrictModel
from mpa_core.errors import CheckpointError
from mpa_core.tasks import image_model

HEADS = Path(__file__).parent / "models"
"""Folder of trained decoders that come with the package, named by their backbone."""


class HeadConfig(StrictModel):
    """The record that is stored beside a decoder's weights."""

    format: int = Field(default=1, ge=1, le=1)
    backbone: str
    """A name that :func:`mpa_core.tasks.image_model` takes."""
    classes: tuple[str, ...] = Field(min_length=2)
    width: int = Field(default=64, gt=0)
    """Number of channels of the decoder."""


class Backbone(nn.Module):
    """Frozen feature maps at strides 4, 8, 16 and 32; always in eval mode."""

    mean: Tensor
    std: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        net = image_model(name, features_only=True)
        from timm.data import resolve_data_config

        config: dict[str, Any] = resolve_data_config(net.default_cfg)
        self.net = net
        reductions = list(net.feature_info.reduction())
        self.levels = [i for i, stride in enumerate(reductions) if stride >= 4]
        self.channels = [int(net.feature_info.channels()[i]) for i in self.levels]
        self.stride = int(reductions[self.levels[0]])
        for key in ("mean", "std"):
            values = torch.tensor(config[key], dtype=torch.float32).view(1, -1, 1, 1)
            self.register_buffer(key, values, persistent=False)
        self.requires_grad_(False)
        self.train(False)

    def train(self, _mode: bool = True) -> Backbone:
        """Stay in eval mode."""
        return super().train(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return feature maps, fine to coarse, of ``x`` [B, 3, H, W], nominally in [0, 1]."""
        x = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        maps = self.net(x)
        return [maps[i] for i in self.levels]


class Decoder(nn.Module):
    """A decoder that adds all levels at ``width`` channels, coarse to fine, and classifies."""

    def __init__(self, channels: Sequence[int], width: int, classes: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(_conv(count, width, 1) for count in channels)
        self.refine = nn.ModuleList(_conv(width, width, 3) for _ in channels)
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return logits [B, classes, H_0, W_0] for ``maps`` [B, C_i, H_i, W_i], fine to coarse."""
        summed: Tensor | None = None
        layers = zip(maps, self.lateral, self.refine, strict=True)
        for features, lateral, refine in reversed(list(layers)):
            value = lateral(features)
            if summed is not None:
                value = value + F.interpolate(
                    summed, value.shape[-2:], mode="bilinear", align_corners=False
                )
            summed = refine(value)
        return self.classify(summed)


def _conv(before: int, after: int, kernel: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )


class Segmenter(nn.Module):
    """A network from pictures [B, 3, H, W], nominally in [0, 1], to logits [B, classes, h, w].

    Pictures have any size. ``h`` and ``w`` are those of the backbone's finest level, at stride 4.
    """

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config.backbone)
        self.decoder = Decoder(self.backbone.channels, config.width, len(config.classes))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, classes, h, w] for pictures ``x`` [B, 3, H, W], nominally in [0, 1]."""
        return self.decoder(self.backbone(x))


def save_head(model: Segmenter, path: Path) -> None:
    """Write the decoder of ``model`` with its configuration, weights in half precision."""
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in model.decoder.state_dict().items()
    }
    metadata = {"mpa": json.dumps(model.config.model_dump(mode="json"), sort_keys=True)}
    save_file(tensors, path, metadata=metadata)


def load_head(path: Path) -> Segmenter:
    """Return the network whose decoder is in ``path``, in eval mode.

    Raises:
        CheckpointError: the file is not such a decoder.
        ConfigError, MissingDependencyError: the backbone cannot be loaded.
    """
    try:
        with safe_open(path, framework="pt") as file:
            stored = (file.metadata() or {}).get("mpa")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: not a readable safetensors file ({error}); expected a segmentation head, as "
            "python -m mpa_plugins.seg.train_head writes it"
        ) from error
    if stored is None:
        raise CheckpointError(
            f"{path}: no key 'mpa' in its metadata; expected a segmentation head, as "
            "python -m mpa_plugins.seg.train_head writes it"
        )
    model = Segmenter(HeadConfig.parse(json.loads(stored), source=str(path)))
    try:
        model.decoder.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: its tensors do not fit its own configuration; train it again"
        ) from error
    return model.eval()
