"""Checkpoints: folders in the shape of a Hub repository (``docs/spec/checkpoint.md``).

Names that need torch are imported on first use, so that listing and describing folders does not
import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpa_core.checkpoints.bundled import bundled_base_of, bundled_bases, bundled_fingerprints
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
from mpa_core.checkpoints.sources import BASE, is_bare, path_on, resolve

if TYPE_CHECKING:
    from mpa_core.checkpoints.exact import exact_fingerprint
    from mpa_core.checkpoints.folders import LoadedBase, load_base, save_base
    from mpa_core.checkpoints.path_folders import LoadedPath, load_path, save_path
    from mpa_core.checkpoints.tensors import load_into

__all__ = [
    "BASE",
    "BASE_CONFIG",
    "PATH_CONFIG",
    "BaseMeta",
    "BaseRef",
    "LoadedBase",
    "LoadedPath",
    "PathMeta",
    "PluginRef",
    "bundled_base_of",
    "bundled_bases",
    "bundled_fingerprints",
    "exact_fingerprint",
    "is_bare",
    "load_base",
    "load_into",
    "load_path",
    "path_on",
    "read_base_meta",
    "read_path_meta",
    "resolve",
    "save_base",
    "save_path",
]

_LAZY = {
    "exact_fingerprint": "exact",
    "LoadedBase": "folders",
    "load_base": "folders",
    "save_base": "folders",
    "LoadedPath": "path_folders",
    "load_path": "path_folders",
    "save_path": "path_folders",
    "load_into": "tensors",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
