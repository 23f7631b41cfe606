"""The ``detection`` path: what is needed to decode through it."""

from __future__ import annotations

from pydantic import Field

from mpa_core import PathConfig, TaskPath


class DetectionPath(TaskPath):
    """Reconstruction for object detectors, through one side MLP per decoder block."""

    name = "detection"

    class Config(PathConfig):
        """Widths of the path."""

        hidden_ratio: float = Field(default=2.0, gt=0)
        """Hidden width of each side MLP, as a multiple of the block's width."""
