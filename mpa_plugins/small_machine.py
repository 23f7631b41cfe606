"""Training settings for a machine without an accelerator, common to the first-party recipes.

The published constants are in ``examples/configs/*-paper.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SMALL_MACHINE: Mapping[str, Any] = {
    # As wide as the main MLPs and started as copies of them, so that the little time goes into what
    # the task needs beyond them. For mpa-small that is 3 % of the base.
    "path": {"hidden_ratio": 2.0},
    "init": {"mlp": "main"},
    "data": {"batch": 4, "crop": 192, "crops_per_photo": 4},
    "loss": {
        "perceptual": "efficientnet-lite0",
        "perceptual_weight": 4.26,
        # Four qualities a step, none of which dominates the others.
        "quality_sampling": "per_image",
        "loss_scale": "sqrt_rate",
        # Half of the pictures take the path whole, which is its most frequent use.
        "full_share": 0.5,
    },
    # A run has one to three thousand steps: the average looks back over the last few hundred.
    "optim": {"lr": 1e-3, "ema_decay": 0.995},
    "schedule": {"kind": "cosine", "warmup": 0.03},
    "budget": {"hours": 0.4},
}
"""Settings tree that a recipe's own settings override."""
