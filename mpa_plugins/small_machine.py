"""Training settings for a machine without an accelerator, common to the first-party recipes.

The published constants are in ``examples/configs/*-paper.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SMALL_MACHINE: Mapping[str, Any] = {
    # Few crops, so that their latents are soon all known; crops are as large as cls's views.
    "data": {"batch": 4, "crop": 256, "crops_per_photo": 2},
    "loss": {
        "perceptual": "efficientnet-lite0",
        "perceptual_weight": 4.26,
        # Four qualities a step, none of which drowns the others.
        "quality_sampling": "per_image",
        "loss_scale": "sqrt_rate",
    },
    # A run has one to two thousand steps: the average looks back over the last hundred or so.
    "optim": {"lr": 1e-3, "ema_decay": 0.99},
    "schedule": {"kind": "cosine", "warmup": 0.03},
    "budget": {"hours": 0.4},
}
"""Settings tree under which a recipe lays its own."""
