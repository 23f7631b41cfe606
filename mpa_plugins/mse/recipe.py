"""The recipe of the ``mse`` path: equation (8) with the distortion as the only task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mpa_core.tasks import Recipe
from mpa_plugins.small_machine import SMALL_MACHINE


class MSERecipe(Recipe):
    """Training on any folder of photos, without a task model; the metric is PSNR."""

    defaults: ClassVar[Mapping[str, Any]] = {
        **SMALL_MACHINE,
        "loss": {**SMALL_MACHINE["loss"], "perceptual": None},
    }
