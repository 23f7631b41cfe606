"""Linear layers on tokens, by the faster kernel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TokenLinear(nn.Linear):
    """``nn.Linear`` on maps of tokens ``[B, H, W, C]``, with the same parameters.

    On the CPU it runs as a 1x1 convolution: oneDNN's kernels for it are up to twice as fast as the
    matrix product ``nn.Linear`` is sent to. Tokens of any other shape go the ordinary way.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        # oneDNN has no float64: the convolution would be the slow one.
        if tokens.ndim != 4 or not tokens.is_cpu or tokens.dtype in (torch.float64, torch.int64):
            return super().forward(tokens)
        batch, height, width, channels = tokens.shape
        # One image per row: torch takes oneDNN on one thread from 16 images on.
        rows = tokens.reshape(batch * height, width, 1, channels).permute(0, 3, 1, 2)
        out = F.conv2d(rows, self.weight[:, :, None, None], self.bias)
        return out.permute(0, 2, 3, 1).reshape(batch, height, width, -1)
