"""All networks that predict symbols, in reproducible arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from mpa_core.base.gains import Quality
from mpa_core.base.tinylic.blocks import NSABlock
from mpa_core.base.tinylic.contexts import SpatialContext
from mpa_core.base.tinylic.exact.blocks import ExactBlock
from mpa_core.base.tinylic.exact.fixed import FixedConv, FixedFormat, FixedLinear
from mpa_core.base.tinylic.exact.rows import QualityRows
from mpa_core.base.tinylic.exact.tables import gelu
from mpa_core.base.tinylic.transforms import SynthesisStage
from mpa_core.errors import CheckpointError

if TYPE_CHECKING:
    from mpa_core.base.tinylic.codec import TinyLIC


class _Stage:
    """A run of blocks with one outer residual, then a transposed convolution."""

    def __init__(
        self, stage: SynthesisStage, name: str, formats: Mapping[str, FixedFormat]
    ) -> None:
        self.blocks = [
            ExactBlock(cast(NSABlock, block), f"{name}.blocks.{i}", formats.__getitem__)
            for i, block in enumerate(stage.blocks)
        ]
        conv = f"{name}.conv"
        self.conv = FixedConv(
            stage.conv.weight.detach(), _bias(stage.conv), formats[conv], conv, stride=2
        )

    def __call__(self, feature_map: Tensor, qualities: list[float]) -> Tensor:
        if self.blocks:
            entered = tokens = feature_map.permute(0, 2, 3, 1)
            for block in self.blocks:
                tokens = block(tokens, qualities)
            feature_map = (tokens + entered).permute(0, 3, 1, 2)
        return self.conv(feature_map)


class _ConvStack:
    """A stack of convolutions with GELU between them."""

    def __init__(self, stack: nn.Sequential, name: str, formats: Mapping[str, FixedFormat]) -> None:
        self.convs = [
            FixedConv(conv.weight.detach(), _bias(conv), formats[f"{name}.{i}"], f"{name}.{i}")
            for i, conv in enumerate(stack)
            if isinstance(conv, nn.Conv2d)
        ]

    def __call__(self, feature_map: Tensor) -> Tensor:
        for conv in self.convs[:-1]:
            feature_map = gelu(conv(feature_map))
        return self.convs[-1](feature_map)


class _Spatial:
    """A masked convolution at the step's phases, computed as one product over its visible taps."""

    def __init__(
        self, context: SpatialContext, name: str, formats: Mapping[str, FixedFormat]
    ) -> None:
        self.phases, self.reach = context.phases, context.kernel // 2
        rows, columns = context.mask.nonzero(as_tuple=True)
        self.taps = list(zip(rows.tolist(), columns.tolist(), strict=True))
        weight = context.conv.weight.detach()[:, :, rows, columns]  # [O, C, taps]
        self.linear = FixedLinear(
            weight.transpose(1, 2).flatten(1), _bias(context.conv), formats[name], name
        )

    def __call__(self, known: Tensor) -> Tensor:
        """Apply the layer: ``[B, c, H, W]`` to ``[P, B, 2c, H/2, W/2]``."""
        height, width = known.shape[-2:]
        padded = nn.functional.pad(known, (self.reach,) * 4)
        maps = []
        for row, column in self.phases:
            seen = [
                padded[..., row + y : row + y + height : 2, column + x : column + x + width : 2]
                for y, x in self.taps
            ]
            out = self.linear(torch.cat(seen, 1).flatten(2))
            maps.append(out.unflatten(2, (height // 2, width // 2)))
        return torch.stack(maps)


class ExactNetworks:
    """Hyper-synthesis and context model of a base, with the same results on every machine.

    Profile 1 (:class:`mpa_core.base.networks.EntropyNetworks`). The networks hold copies: a base
    whose weights change needs new ones.

    Args:
        base: a base on the CPU or on a device with float64.
        formats: formats by the names of the layers in ``base``
            (:mod:`mpa_core.base.tinylic.exact.formats`).

    Raises:
        CheckpointError: layers and formats do not fit, or a sum could be inexact.
    """

    desync_advice = (
        "the file was forged, or one of the two machines computes wrongly (memory, an overclocked "
        "processor); decode it on another machine, or encode the picture again"
    )

    def __init__(self, base: TinyLIC, formats: Mapping[str, FixedFormat]) -> None:
        self.formats = dict(formats)
        entropy = base.entropy
        try:
            self._gain = QualityRows(base.z_gains.inverse_gain)
            self._medians = entropy.z_medians.double()
            self._h_s = [
                _Stage(cast(SynthesisStage, stage), f"h_s.stages.{i}", formats)
                for i, stage in enumerate(base.h_s.stages)
            ]
            self._channel, self._parameters = (
                [
                    _ConvStack(cast(nn.Sequential, net), f"entropy.{group}.{i}", formats)
                    for i, net in enumerate(getattr(entropy, group))
                ]
                for group in ("channel_contexts", "parameter_nets")
            )
            self._spatial = {
                int(step): _Spatial(
                    cast(SpatialContext, net), f"entropy.spatial_contexts.{step}", formats
                )
                for step, net in entropy.spatial_contexts.items()
            }
        except KeyError as error:
            raise CheckpointError(
                f"exact profile: there is no format for {error}; convert the base again with "
                "mpa exact"
            ) from error

    @property
    def device(self) -> torch.device:
        """The device on which the networks compute."""
        return self._medians.device

    def alike(self) -> AbstractContextManager[None]:
        """Return a context that does nothing: this profile computes alike everywhere."""
        return nullcontext()

    def hyper_synthesise(self, symbols: Tensor, quality: Quality) -> Tensor:
        """Compute entropy parameters ``[B, 2M, 4h, 4w]`` from symbols of ``z`` ``[B, C, h, w]``."""
        z_hat = symbols.to(self._medians) + self._medians
        feature_map = z_hat * self._gain.pick(quality.values)[:, :, None, None]
        for stage in self._h_s:
            feature_map = stage(feature_map, quality.values)
        return feature_map

    def channel_context(self, index: int, known: Tensor) -> Tensor:
        """Return the context of slice ``index``, from entropy parameters and decoded slices."""
        return self._channel[index](known)

    def spatial_context(self, step: int, known: Tensor) -> Tensor:
        """Return the context of step number ``step``, from the decoded positions of its slice."""
        return self._spatial[step](known)

    def predict(self, index: int, features: Tensor) -> Tensor:
        """Return the scales, then the means, of slice ``index``."""
        return self._parameters[index](features)


def _bias(layer: nn.Conv2d | nn.ConvTranspose2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias.detach()
