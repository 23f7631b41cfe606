"""How fast the blocks of a model learn: those of the base, and those of its encoder's side path."""

from __future__ import annotations

import torch

from mpa_core.base.api import needs
from mpa_core.base.capabilities import BlockRescaling
from mpa_core.coding.model import MPAModel


def block_rescaling(model: MPAModel) -> BlockRescaling:
    """How fast the base's blocks learn; a :class:`ConfigError` where that cannot be changed."""
    return needs(
        model.base.capabilities.rescaling,
        model.config,
        "rescaling of its blocks",
        "set init.block_rescale=1",
    )


@torch.no_grad()
def rescale_blocks(model: MPAModel, factor: float) -> None:
    """Make what the blocks add to their input change ``factor`` times as fast.

    The function stays the same (up to rounding). Task paths share what is rescaled with the main
    path: rescale before any is trained.

    Raises:
        ConfigError: the base offers no such thing.
    """
    block_rescaling(model).rescale(factor)
    if model.encoder_path is None:
        return
    for name, parameter in model.encoder_path.named_parameters():
        if ".mlps." in name and ".fc2." in name:
            parameter.div_(factor)
