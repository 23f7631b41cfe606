"""What a plugin needs: :class:`PathSpec`, :class:`BaseSpec` and :data:`hookimpl`.
Importing this never imports torch.

What is installed is found by :func:`mpa_core.plugins.registry.registry`.
"""

from __future__ import annotations

from mpa_core.plugins.hookspecs import BaseSpec, PathSpec, hookimpl

__all__ = ["BaseSpec", "PathSpec", "hookimpl"]
