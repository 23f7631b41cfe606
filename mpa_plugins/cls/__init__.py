"""The ``cls`` path, for image classification: top module of the plugin, imported at discovery."""

from __future__ import annotations

from mpa_core import PathSpec, hookimpl


@hookimpl
def mpa_task_paths() -> list[PathSpec]:
    """Register the path."""
    return [
        PathSpec(
            name="cls",
            path="mpa_plugins.cls.path:ClsPath",
            recipe="mpa_plugins.cls.recipe:ClsRecipe",
            official=1,
            summary="For image classifiers.",
        )
    ]
