"""The ``ocr`` path: text recognition. Top module of the plugin, imported at discovery."""

from __future__ import annotations

from mpa_core import PathSpec, hookimpl


@hookimpl
def mpa_task_paths() -> list[PathSpec]:
    """Register the path."""
    return [
        PathSpec(
            name="ocr",
            path="mpa_plugin_ocr.path:OcrPath",
            recipe="mpa_plugin_ocr.recipe:OcrRecipe",
            summary="For text recognisers.",
        )
    ]
