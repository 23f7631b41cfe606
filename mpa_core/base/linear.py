"""A linear layer on tokens that uses the fastest kernel of the device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TokenLinear(nn.Linear):
    """``nn.Linear`` on maps of tokens ``[B, H, W, C]``, with the same parameters.

    On the CPU it runs as a 1x1 convolution: oneDNN's kernels for it are up to twice as fast as the
    matrix product that ``nn.Linear`` uses. Its gradients are matrix products, since there the
    convolution takes twice as long. Tokens of any other shape take the ordinary way.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens ``[..., C_out]`` for ``tokens`` ``[..., C_in]``."""
        # oneDNN has no float64: the convolution would be the slow one.
        if tokens.ndim != 4 or not tokens.is_cpu or tokens.dtype in (torch.float64, torch.int64):
            return super().forward(tokens)
        # Autocast chooses the precision of the convolution and, from it, that of its gradients.
        if not torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return _as_convolution(tokens, self.weight, self.bias)
        out: Tensor = _TokenLinear.apply(tokens, self.weight, self.bias)
        return out


def _as_convolution(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    batch, height, width, channels = tokens.shape
    # One image per row: on one thread torch uses oneDNN only from 16 images on.
    rows = tokens.reshape(batch * height, width, 1, channels).permute(0, 3, 1, 2)
    out = F.conv2d(rows, weight[:, :, None, None], bias)
    return out.permute(0, 2, 3, 1).reshape(batch, height, width, -1)


class _TokenLinear(torch.autograd.Function):
    """[B, H, W, C_in], [C_out, C_in], [C_out] or None -> [B, H, W, C_out]."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(tokens, weight)
        return _as_convolution(tokens, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        tokens, weight = ctx.saved_tensors
        (grad,) = grads
        rows = grad.flatten(0, 2)
        for_tokens, for_weight, for_bias = ctx.needs_input_grad
        return (
            grad @ weight if for_tokens else None,
            rows.mT @ tokens.flatten(0, 2) if for_weight else None,
            rows.sum(0) if for_bias else None,
        )
