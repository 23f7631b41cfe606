"""Number of multiply-adds per pixel, counted by torch on a real forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mpa_core.base.counting import DefinesMacs
from mpa_core.coding.model import MPAModel
from mpa_core.mix import Mix

SIDE = 256
"""Side in pixels of the picture that is counted on, as in the source of SPEC section 4."""


def macs_per_pixel(model: MPAModel, quality: float, mix: Mix) -> dict[str, float]:
    """Return the multiply-adds per pixel of ``encoder`` (g_a) and ``decoder`` (g_s).

    Attention counts its window of keys per query, by its definition: the tiles of our kernels are
    no property of the model. A predictor counts where it runs, which it does not where all tokens
    go one way.

    Args:
        model: in eval mode, on any device.
        quality: quality of the encoder's mix.
        mix: mix of the decoder, without regions.
    """
    x = torch.zeros(1, 3, SIDE, SIDE, device=model.device)
    counted = _Counter(model)
    with torch.inference_mode():
        q = model.base.quality(quality, x)
        router = model.encoder_router(q)
        encoder, y = counted(lambda: model.base.analyse(x, q, router))
        decoder, _ = counted(lambda: model.reconstruct(y, q, mix))
    return {"encoder": encoder, "decoder": decoder}


class _Counter:
    """Counts the work of a call, corrected for modules that define their own count."""

    def __init__(self, model: nn.Module) -> None:
        self._defined = [m for m in model.modules() if isinstance(m, DefinesMacs)]

    def __call__(self, call: Callable[[], Tensor]) -> tuple[float, Tensor]:
        mode = FlopCounterMode(display=False)
        before: list[int] = []
        excess = 0

        def enter(_module: nn.Module, _inputs: Any) -> None:
            before.append(mode.get_total_flops())

        def leave(module: nn.Module, inputs: tuple[Tensor], _output: Tensor) -> None:
            nonlocal excess
            exact = cast(DefinesMacs, module).macs(inputs[0])
            excess += mode.get_total_flops() - before.pop() - 2 * exact

        hooks = [module.register_forward_pre_hook(enter) for module in self._defined]
        hooks += [module.register_forward_hook(leave) for module in self._defined]
        try:
            with mode:
                out = call()
        finally:
            for hook in hooks:
                hook.remove()
        return (mode.get_total_flops() - excess) / 2 / SIDE**2, out
