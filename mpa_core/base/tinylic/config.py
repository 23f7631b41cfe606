"""Configuration of a TinyLIC base; the module does not import torch."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from mpa_core.config import (
    CHECKPOINT_FORMAT,
    MAX_STAGES,
    MAX_WINDOW,
    TINYLIC,
    BaseConfig,
    Depth,
    Dropout,
    PathStage,
    Positive,
    Ratio,
    StrictModel,
    Width,
)


class StageConfig(StrictModel):
    """One stage of a transform: a strided convolution and a run of transformer blocks."""

    width: Width
    """Channels of the feature map."""
    depth: Depth
    """Number of transformer blocks; 0 leaves the convolution alone."""
    heads: Positive
    """Attention heads; must divide ``width``."""
    window: Annotated[int, Field(ge=1, le=MAX_WINDOW)] = 7
    """Side of the attention window in tokens; odd."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.window % 2 == 0:
            raise ValueError(f"window {self.window} is even; an odd window has a centre")
        return self


Stages = Annotated[tuple[StageConfig, ...], Field(min_length=1, max_length=MAX_STAGES)]


class TinyLICConfig(BaseConfig):
    """Everything that fixes the architecture of a TinyLIC base.

    The four transforms list their stages in execution order: ``g_a`` and ``h_a`` from fine to
    coarse, ``g_s`` and ``h_s`` from coarse to fine. SPEC's full-width model is the preset
    ``mpa-base`` in :mod:`mpa_core.base.tinylic.presets`.
    """

    type: ClassVar[str] = TINYLIC
    format: Literal[1] = CHECKPOINT_FORMAT
    g_a: Stages
    h_a: Stages
    h_s: Stages
    g_s: Stages
    mlp_ratio: Ratio = 2.0
    drop_path: Dropout = 0.1
    """Rate of stochastic depth at the deepest block, in training only."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.g_s) != len(self.g_a) or len(self.h_s) != len(self.h_a):
            raise ValueError("g_s needs as many stages as g_a, and h_s as many as h_a")
        if self.g_s[0].width != self.latent_channels:
            raise ValueError(
                f"g_s starts at width {self.g_s[0].width}, g_a ends at {self.latent_channels}"
            )
        if self.h_s[0].width != self.hyper_channels:
            raise ValueError(
                f"h_s starts at width {self.h_s[0].width}, h_a ends at {self.hyper_channels}"
            )
        if min(self.slices) < 1:
            raise ValueError(f"{self.latent_channels} latent channels are too few for 4 slices")
        return self

    @property
    def latent_channels(self) -> int:
        """Number M of channels of ``y``."""
        return self.g_a[-1].width

    @property
    def hyper_channels(self) -> int:
        """Number of channels of ``z``."""
        return self.h_a[-1].width

    @property
    def latent_stride(self) -> int:
        """Side in image pixels that one position of ``y`` covers."""
        return 2 ** len(self.g_a)

    @property
    def hyper_stride(self) -> int:
        """Side in pixels that a position of ``z`` covers; images are padded to multiples of it."""
        return int(self.latent_stride * 2 ** len(self.h_a))

    @property
    def slices(self) -> tuple[int, ...]:
        """Channels of the four latent slices, by the cosine schedule of SPEC section 1."""
        total = self.latent_channels
        bounds = [math.ceil(math.cos(t * math.pi / 8) * total) for t in range(4)] + [0]
        return tuple(bounds[t] - bounds[t + 1] for t in range(4))

    @property
    def least_parameters(self) -> int:
        """Number of weights in the large layers, about nine tenths of all weights.

        A checkpoint holds at least as many. Nothing is built, so that a config can be judged before
        memory is spent on it.
        """
        total = 0
        # A synthesis is an analysis backwards, with other channels at its fine end.
        for channels, stages, kernel in (
            (3, self.g_a, 5),
            (self.latent_channels, self.h_a, 3),
            (2 * self.latent_channels, self.h_s[::-1], 3),
            (3, self.g_s[::-1], 5),
        ):
            for stage in stages:
                width = stage.width
                total += kernel**2 * channels * width
                total += stage.depth * 2 * width * (2 * width + int(width * self.mlp_ratio))
                channels, kernel = width, 3
        known = 2 * self.latent_channels
        for width in self.slices:
            total += (25 * known + 43 * width) * width
            known += width
        return total

    @property
    def encoder_path_stages(self) -> tuple[PathStage, ...]:
        """Stages of ``g_a`` with a side path: all with blocks but the coarsest."""
        return _path_stages(self.g_a, range(len(self.g_a) - 1))

    @property
    def decoder_path_stages(self) -> tuple[PathStage, ...]:
        """Stages of ``g_s`` that a task path attaches to: all with blocks but the coarsest."""
        return _path_stages(self.g_s, range(1, len(self.g_s)))

    @property
    def summary(self) -> str:
        """One line with the widths and depths of ``g_a``."""
        stages = ", ".join(f"{stage.width} x {stage.depth}" for stage in self.g_a)
        return f"Stages of `g_a` (width x depth): {stages}"


def _path_stages(stages: tuple[StageConfig, ...], indices: range) -> tuple[PathStage, ...]:
    return tuple(PathStage(i, stages[i].width, stages[i].depth) for i in indices if stages[i].depth)
