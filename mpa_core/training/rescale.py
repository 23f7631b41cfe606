"""How fast the blocks learn: the same function, with the scale moved from weights to gammas."""

from __future__ import annotations

from typing import cast

import torch

from mpa_core.base.tinylic.blocks import NSABlock, Stage
from mpa_core.coding.model import MPAModel


@torch.no_grad()
def rescale_blocks(model: MPAModel, factor: float) -> None:
    """Multiply gamma in ``g_a`` and ``g_s`` by ``factor``, divide the layers before it by as much.

    The function stays the same (up to rounding). Adam moves every weight by about the learning
    rate, whatever the size of its gradient, so what a block adds to its input changes ``factor``
    times as fast. Blocks that start near the identity by a small gamma hardly learn otherwise.

    Task paths share gamma with the main path: rescale before any is trained.
    """
    for transform in (model.base.g_a, model.base.g_s):
        for stage in transform.stages:
            for block in map(_block, cast(Stage, stage).blocks):
                block.gamma1.mul_(factor)
                block.gamma2.mul_(factor)
                for layer in (block.attn.proj, block.mlp.fc2):
                    layer.weight.div_(factor)
                    layer.bias.div_(factor)
    for name, parameter in model.encoder_path.named_parameters():
        if ".mlps." in name and ".fc2." in name:
            parameter.div_(factor)


def _block(module: torch.nn.Module) -> NSABlock:
    return cast(NSABlock, module)
