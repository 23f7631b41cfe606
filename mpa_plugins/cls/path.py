"""The ``cls`` path: the class that decoding needs."""

from __future__ import annotations

from pydantic import Field

from mpa_core import PathConfig, TaskPath


class ClsPath(TaskPath):
    """Reconstruction for image classifiers, through bottleneck MLPs (hidden width dim / 2)."""

    name = "cls"

    class Config(PathConfig):
        """The configuration of SPEC section 2."""

        hidden_ratio: float = Field(default=0.5, gt=0)
