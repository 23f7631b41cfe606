"""Named architectures of the base codec."""

from __future__ import annotations

from mpa_core.arguments import shown
from mpa_core.config import BaseConfig, StageConfig
from mpa_core.errors import ConfigError


def _mirrored(
    widths: tuple[int, ...],
    depths: tuple[int, ...],
    hyper_width: int,
    hyper_depth: int,
    *,
    head_width: int = 16,
    windows: tuple[int, ...] | None = None,
) -> BaseConfig:
    """A config whose synthesis mirrors its analysis, as in the paper."""
    windows = windows or (7,) * len(widths)
    analysis = tuple(
        StageConfig(width=width, depth=depth, heads=width // head_width, window=window)
        for width, depth, window in zip(widths, depths, windows, strict=True)
    )
    hyper = (
        StageConfig(
            width=hyper_width, depth=hyper_depth, heads=hyper_width // head_width, window=3
        ),
    ) * 2
    return BaseConfig(g_a=analysis, h_a=hyper, h_s=hyper, g_s=analysis[::-1])


PRESETS: dict[str, BaseConfig] = {
    # SPEC section 1: N = 128, M = 320.
    "mpa-base": _mirrored((128, 192, 256, 320), (2, 2, 6, 2), 192, 2),
    # What ships: docs/history.md has the evidence for its widths and depths.
    "mpa-small": _mirrored((32, 64, 128, 160), (1, 1, 2, 2), 80, 1, windows=(3, 5, 7, 7)),
    # For tests: every part present, nothing large.
    "mpa-tiny": _mirrored((8, 16, 16, 32), (1, 1, 2, 1), 16, 1, head_width=8),
}
"""Preset name to architecture."""


def preset(name: str) -> BaseConfig:
    """The architecture called ``name``.

    Raises:
        ConfigError: there is no such preset.
    """
    if isinstance(name, str) and name in PRESETS:
        return PRESETS[name]
    known = ", ".join(PRESETS)
    raise ConfigError(f"there is no preset {shown(name)}; choose one of {known}")
