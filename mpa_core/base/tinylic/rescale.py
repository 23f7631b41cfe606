"""Rescaling of the blocks, which changes how fast they learn and not what they compute."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch

from mpa_core.base.tinylic.blocks import NSABlock, Stage

if TYPE_CHECKING:
    from mpa_core.base.tinylic.codec import TinyLIC


@torch.no_grad()
def rescale_blocks(base: TinyLIC, factor: float) -> None:
    """Multiply gamma in ``g_a`` and ``g_s`` by ``factor``, divide the layers before it by as much.

    The function stays the same (up to rounding). Adam moves every weight by about the learning
    rate, whatever the size of its gradient, so the residuals of the blocks change ``factor`` times
    as fast. Blocks that start near the identity by a small gamma hardly learn otherwise.
    """
    for transform in (base.g_a, base.g_s):
        for stage in transform.stages:
            for module in cast(Stage, stage).blocks:
                block = cast(NSABlock, module)
                block.gamma1.mul_(factor)
                block.gamma2.mul_(factor)
                for layer in (block.attn.proj, block.mlp.fc2):
                    layer.weight.div_(factor)
                    layer.bias.div_(factor)
