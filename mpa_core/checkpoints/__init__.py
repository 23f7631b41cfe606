"""Checkpoints: folders in the shape of a Hub repository (``docs/spec/checkpoint.md``).

Names that need torch are imported on first use, so that listing and describing folders does not
import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpa_core.checkpoints.asked import AskedPaths, split_named
from mpa_core.checkpoints.bundled import bundled_base_of, bundled_bases, bundled_fingerprints
from mpa_core.checkpoints.cards import path_card
from mpa_core.checkpoints.hub import HubOptions
from mpa_core.checkpoints.meta import (
    BASE_CONFIG,
    PATH_CONFIG,
    BaseMeta,
    BaseRef,
    PathMeta,
    PluginRef,
    read_base_meta,
    read_path_meta,
)
from mpa_core.checkpoints.origin import Origin, origin_of
from mpa_core.checkpoints.sources import BASE, base_folder, is_bare, path_on, resolve
from mpa_core.lazy import lazy_names

if TYPE_CHECKING:
    from mpa_core.checkpoints.exact import exact_fingerprint
    from mpa_core.checkpoints.folders import LoadedBase, load_base, save_base
    from mpa_core.checkpoints.path_folders import LoadedPath, load_path, require_base, save_path
    from mpa_core.checkpoints.task_paths import base_of, build_path, plugin_of
    from mpa_core.checkpoints.tensors import load_into

__all__ = [
    "BASE",
    "BASE_CONFIG",
    "PATH_CONFIG",
    "AskedPaths",
    "BaseMeta",
    "BaseRef",
    "HubOptions",
    "LoadedBase",
    "LoadedPath",
    "Origin",
    "PathMeta",
    "PluginRef",
    "base_folder",
    "base_of",
    "build_path",
    "bundled_base_of",
    "bundled_bases",
    "bundled_fingerprints",
    "exact_fingerprint",
    "is_bare",
    "load_base",
    "load_into",
    "load_path",
    "origin_of",
    "path_card",
    "path_on",
    "plugin_of",
    "read_base_meta",
    "read_path_meta",
    "require_base",
    "resolve",
    "save_base",
    "save_path",
    "split_named",
]

_MODULES = {
    "mpa_core.checkpoints.exact": ("exact_fingerprint",),
    "mpa_core.checkpoints.folders": ("LoadedBase", "load_base", "save_base"),
    "mpa_core.checkpoints.path_folders": (
        "LoadedPath",
        "load_path",
        "require_base",
        "save_path",
    ),
    "mpa_core.checkpoints.task_paths": ("base_of", "build_path", "plugin_of"),
    "mpa_core.checkpoints.tensors": ("load_into",),
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
