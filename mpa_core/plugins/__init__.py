"""The public names for a plugin: :class:`PathSpec`, :class:`BaseSpec` and :data:`hookimpl`.

Importing this module never imports torch. Installed plugins are found by
:func:`mpa_core.plugins.registry.registry`.
"""

from __future__ import annotations

from mpa_core.plugins.hookspecs import BaseSpec, PathSpec, hookimpl

__all__ = ["BaseSpec", "PathSpec", "hookimpl"]
