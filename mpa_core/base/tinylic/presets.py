"""Named architectures of TinyLIC."""

from __future__ import annotations

from mpa_core.base.tinylic.config import StageConfig, TinyLICConfig


def _mirrored(
    widths: tuple[int, ...],
    depths: tuple[int, ...],
    hyper_width: int,
    hyper_depth: int,
    *,
    head_width: int = 16,
    windows: tuple[int, ...] | None = None,
) -> TinyLICConfig:
    """Build a config whose synthesis mirrors its analysis, as in the paper."""
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
    return TinyLICConfig(g_a=analysis, h_a=hyper, h_s=hyper, g_s=analysis[::-1])


PRESETS: dict[str, TinyLICConfig] = {
    # SPEC section 1: N = 128, M = 320.
    "mpa-base": _mirrored((128, 192, 256, 320), (2, 2, 6, 2), 192, 2),
    # Ships with the package; docs/history.md has the evidence for its widths and depths.
    "mpa-small": _mirrored((32, 64, 128, 160), (1, 1, 2, 2), 80, 1, windows=(3, 5, 7, 7)),
    # For tests: every part present, nothing large.
    "mpa-tiny": _mirrored((8, 16, 16, 32), (1, 1, 2, 1), 16, 1, head_width=8),
}
"""Architectures by preset name."""
