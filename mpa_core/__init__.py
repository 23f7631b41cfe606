"""Learned image coding for people and machines: one bitstream, many task paths.

The names below are imported when they are first used, so that ``import mpa_core`` stays light:
plugins and the command line start without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpa_core import errors
from mpa_core.lazy import lazy_names

if TYPE_CHECKING:
    from mpa_core.codec import MPACodec
    from mpa_core.config import PathConfig
    from mpa_core.mix import Mix
    from mpa_core.paths.path import TaskPath
    from mpa_core.plugins.hookspecs import BaseSpec, PathSpec, hookimpl
    from mpa_core.tasks.metric import Metric
    from mpa_core.tasks.recipe import Recipe
    from mpa_core.tasks.samples import PathBatch, Sample

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
    "Metric": "mpa_core.tasks.metric",
    "Mix": "mpa_core.mix",
    "PathBatch": "mpa_core.tasks.samples",
    "PathConfig": "mpa_core.config",
    "PathSpec": "mpa_core.plugins.hookspecs",
    "Recipe": "mpa_core.tasks.recipe",
    "Sample": "mpa_core.tasks.samples",
    "TaskPath": "mpa_core.paths.path",
    "hookimpl": "mpa_core.plugins.hookspecs",
}


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
