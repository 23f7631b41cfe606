"""The ``ocr`` path: what is needed to decode through it."""

from __future__ import annotations

from pydantic import Field

from mpa_core import PathConfig, TaskPath


class OcrPath(TaskPath):
    """Reconstruction for text recognisers, through MLPs of hidden width ``hidden_ratio * dim``."""

    name = "ocr"

    class Config(PathConfig):
        """Fields of the path's architecture."""

        hidden_ratio: float = Field(default=2.0, gt=0)
