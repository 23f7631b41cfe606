"""Rescaling of a model's blocks, and of its encoder's side path, to change how fast they learn."""

from __future__ import annotations

import torch

from mpa_core.base.api import needs
from mpa_core.base.capabilities import BlockRescaling
from mpa_core.coding.model import MPAModel


def block_rescaling(model: MPAModel) -> BlockRescaling:
    """Return the rescaling of the base's blocks.

    Raises:
        ConfigError: the base has none.
    """
    return needs(
        model.base.capabilities.rescaling,
        model.config,
        "rescaling of its blocks",
        "set init.block_rescale=1",
    )


@torch.no_grad()
def rescale_blocks(model: MPAModel, factor: float) -> None:
    """Make the residuals of the blocks change ``factor`` times as fast in training.

    The function stays the same (up to rounding). Task paths share the rescaled gammas with the main
    path, so rescale before any is trained.

    Raises:
        ConfigError: the blocks of the base cannot be rescaled.
    """
    block_rescaling(model).rescale(factor)
    if model.encoder_path is None:
        return
    for name, parameter in model.encoder_path.named_parameters():
        if ".mlps." in name and ".fc2." in name:
            parameter.div_(factor)
