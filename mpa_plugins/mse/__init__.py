"""The ``mse`` path, for lowest distortion: top module of the plugin, imported at discovery."""

from __future__ import annotations

from mpa_core import PathSpec, hookimpl


@hookimpl
def mpa_task_paths() -> list[PathSpec]:
    """Register the path."""
    return [
        PathSpec(
            name="mse",
            path="mpa_plugins.mse.path:MSEPath",
            recipe="mpa_plugins.mse.recipe:MSERecipe",
            measure="psnr",
            official=0,
            summary="Lowest mean squared error (highest PSNR).",
        )
    ]
