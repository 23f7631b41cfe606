"""The four transforms ``g_a``, ``g_s``, ``h_a``, ``h_s`` (SPEC section 1, first table).

An analysis transform halves the resolution in every stage (convolution, then blocks); a synthesis
transform doubles it (blocks, then transposed convolution). The stages come from the config.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mpa_core.base.gains import Quality
from mpa_core.base.routing import StageRouter
from mpa_core.base.tinylic.blocks import NSABlock, Stage
from mpa_core.base.tinylic.config import StageConfig, TinyLICConfig


def _blocks(stage: StageConfig, config: TinyLICConfig, rates: Sequence[float]) -> list[NSABlock]:
    return [
        NSABlock(
            stage.width, stage.heads, stage.window, config.mlp_ratio, config.quality_levels, rate
        )
        for rate in rates
    ]


class AnalysisStage(Stage):
    """A strided convolution ``kernel x kernel``, then a run of blocks."""

    def __init__(
        self,
        in_channels: int,
        stage: StageConfig,
        kernel: int,
        config: TinyLICConfig,
        rates: Sequence[float],
    ) -> None:
        super().__init__(_blocks(stage, config, rates))
        self.conv = nn.Conv2d(in_channels, stage.width, kernel, stride=2, padding=kernel // 2)

    def forward(
        self, feature_map: Tensor, quality: Quality, router: StageRouter | None, stage: int
    ) -> Tensor:
        """Return ``[B, width, H/2, W/2]`` for ``feature_map`` ``[B, in_channels, H, W]``."""
        return self.run_blocks(self.conv(feature_map), quality, router, stage)


class SynthesisStage(Stage):
    """A run of blocks, then a transposed convolution that doubles the resolution."""

    def __init__(
        self,
        stage: StageConfig,
        out_channels: int,
        kernel: int,
        config: TinyLICConfig,
        rates: Sequence[float],
    ) -> None:
        super().__init__(_blocks(stage, config, rates))
        self.conv = nn.ConvTranspose2d(
            stage.width, out_channels, kernel, stride=2, padding=kernel // 2, output_padding=1
        )

    def forward(
        self, feature_map: Tensor, quality: Quality, router: StageRouter | None, stage: int
    ) -> Tensor:
        """Return ``[B, out_channels, 2H, 2W]`` for ``feature_map`` ``[B, width, H, W]``."""
        out: Tensor = self.conv(self.run_blocks(feature_map, quality, router, stage))
        return out


class Transform(nn.Module):
    """A sequence of stages."""

    def __init__(self, stages: Sequence[AnalysisStage | SynthesisStage]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(
        self, feature_map: Tensor, quality: Quality, router: StageRouter | None = None
    ) -> Tensor:
        """Run all stages on ``feature_map`` ``[B, C_in, H, W]``.

        ``router`` chooses, per stage, who computes the feed-forward part of the blocks.

        Returns:
            ``[B, C_out, H', W']``; H' is H / 2**stages in an analysis, H * 2**stages in a
            synthesis.
        """
        for index, stage in enumerate(self.stages):
            feature_map = stage(feature_map, quality, router, index)
        return feature_map


def analysis(
    stages: Sequence[StageConfig],
    config: TinyLICConfig,
    *,
    in_channels: int,
    outer_kernel: int,
    rates: Sequence[Sequence[float]],
) -> Transform:
    """Build ``g_a`` or ``h_a``; the first convolution has ``outer_kernel``, the others kernel 3."""
    inputs = [in_channels, *(stage.width for stage in stages)]
    return Transform(
        [
            AnalysisStage(inputs[i], stage, outer_kernel if i == 0 else 3, config, rates[i])
            for i, stage in enumerate(stages)
        ]
    )


def synthesis(
    stages: Sequence[StageConfig],
    config: TinyLICConfig,
    *,
    out_channels: int,
    outer_kernel: int,
    rates: Sequence[Sequence[float]],
) -> Transform:
    """Build ``g_s`` or ``h_s``; the last convolution has ``outer_kernel``, the others kernel 3."""
    outputs = [*(stage.width for stage in stages[1:]), out_channels]
    last = len(stages) - 1
    return Transform(
        [
            SynthesisStage(stage, outputs[i], outer_kernel if i == last else 3, config, rates[i])
            for i, stage in enumerate(stages)
        ]
    )


def drop_path_rates(depths: Sequence[int], deepest: float) -> list[list[float]]:
    """Return the stochastic-depth rate of every block: 0 at the first, rising to ``deepest``.

    The rates rise linearly with the block's number. ``depths`` are the blocks per stage.
    """
    total = sum(depths)
    rates = iter([deepest * i / max(total - 1, 1) for i in range(total)])
    return [[next(rates) for _ in range(depth)] for depth in depths]
