"""The ``mse`` path: the class that decoding needs."""

from __future__ import annotations

from pydantic import Field

from mpa_core import PathConfig, TaskPath


class MSEPath(TaskPath):
    """Reconstruction of lowest mean squared error, through inverted MLPs (hidden width 2 dim)."""

    name = "mse"

    class Config(PathConfig):
        """The configuration of SPEC section 2."""

        hidden_ratio: float = Field(default=2.0, gt=0)
