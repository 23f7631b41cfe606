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
"""Version of this mpa-core, as PEP 440 writes them."""

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

_MODULES = {
    "mpa_core.codec": ("MPACodec",),
    "mpa_core.config": ("PathConfig",),
    "mpa_core.mix": ("Mix",),
    "mpa_core.paths.path": ("TaskPath",),
    "mpa_core.plugins.hookspecs": ("BaseSpec", "PathSpec", "hookimpl"),
    "mpa_core.tasks.metric": ("Metric",),
    "mpa_core.tasks.recipe": ("Recipe",),
    "mpa_core.tasks.samples": ("PathBatch", "Sample"),
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
