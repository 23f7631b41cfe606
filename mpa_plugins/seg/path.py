"""The ``seg`` path: the class that decoding needs."""

from __future__ import annotations

from pydantic import Field

from mpa_core import PathConfig, TaskPath


class SegPath(TaskPath):
    """Reconstruction for semantic segmentation, through bottleneck MLPs (hidden width dim / 2)."""

    name = "seg"

    class Config(PathConfig):
        """The configuration of SPEC section 2."""

        hidden_ratio: float = Field(default=0.5, gt=0)
