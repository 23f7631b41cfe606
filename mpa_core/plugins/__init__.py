"""What a plugin needs: :class:`PathSpec` and :data:`hookimpl`. Importing this never imports torch.

What is installed is found by :func:`mpa_core.plugins.registry.registry`.
"""

from __future__ import annotations

from mpa_core.plugins.hookspecs import PathSpec, hookimpl

__all__ = ["PathSpec", "hookimpl"]
