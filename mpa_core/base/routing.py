"""Protocols of a *router*, which replaces the feed-forward part of the blocks of a stage.

A base knows nothing else about task paths: with no router it is the plain base codec.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor


class BlockRouter(Protocol):
    """A router for the blocks of one stage in one call; it is asked once per block."""

    def __call__(self, tokens: Tensor, block: int, main: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the feed-forward output ``[B, H, W, C]`` for ``tokens`` ``[B, H, W, C]``.

        ``main`` is the block's own feed-forward part, for tokens of any leading shape.
        """


class StageRouter(Protocol):
    """A router that is asked once per stage, before its first block."""

    def __call__(self, stage: int, tokens: Tensor) -> BlockRouter | None:
        """Return the router of this stage's blocks, or None for the main path alone.

        ``tokens`` ``[B, H, W, C]`` are those that enter the stage.
        """
