"""The ``seg`` path, for semantic segmentation: top module of the plugin, imported at discovery."""

from __future__ import annotations

from mpa_core import PathSpec, hookimpl


@hookimpl
def mpa_task_paths() -> list[PathSpec]:
    """Register the path."""
    return [
        PathSpec(
            name="seg",
            path="mpa_plugins.seg.path:SegPath",
            recipe="mpa_plugins.seg.recipe:SegRecipe",
            official=2,
            summary="For semantic segmentation.",
        )
    ]
