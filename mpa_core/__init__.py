"""Learned image coding for people and machines: one bitstream, many task paths.

The names below are imported when they are first used, so that ``import mpa_core`` stays light:
plugins and the command line start without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from mpa_core import errors

if TYPE_CHECKING:
    from mpa_core.codec import MPACodec
    from mpa_core.config import PathConfig
    from mpa_core.mix import Mix
    from mpa_core.paths.path import TaskPath
    from mpa_core.plugins.hookspecs import BaseSpec, PathSpec, hookimpl
    from mpa_core.tasks.recipe import Metric, PathBatch, Recipe, Sample

__version__ = "0.1.0"

__all__ = [
    "BaseSpec",
    "MPACodec",
    "Metric",
    "Mix",
    "PathBatch",
    "PathConfig",
    "PathSpec",
    "Recipe",
    "Sample",
    "TaskPath",
    "__version__",
    "errors",
    "hookimpl",
]

_HOMES = {
    "BaseSpec": "mpa_core.plugins.hookspecs",
    "MPACodec": "mpa_core.codec",
    "Metric": "mpa_core.tasks.recipe",
    "Mix": "mpa_core.mix",
    "PathBatch": "mpa_core.tasks.recipe",
    "PathConfig": "mpa_core.config",
    "PathSpec": "mpa_core.plugins.hookspecs",
    "Recipe": "mpa_core.tasks.recipe",
    "Sample": "mpa_core.tasks.recipe",
    "TaskPath": "mpa_core.paths.path",
    "hookimpl": "mpa_core.plugins.hookspecs",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
