"""The ``detection`` path: object detection. Top module of the plugin, imported at discovery."""

from __future__ import annotations

from mpa_core import PathSpec, hookimpl


@hookimpl
def mpa_task_paths() -> list[PathSpec]:
    """Register the path."""
    return [
        PathSpec(
            name="detection",
            path="mpa_plugin_detection.path:DetectionPath",
            recipe="mpa_plugin_detection.recipe:DetectionRecipe",
            summary="For object detectors.",
        )
    ]
