"""The text detector of PP-OCRv4 (mobile) as a plain torch module.

After PaddleOCR (Apache-2.0): a PP-LCNetV3 backbone of three quarters of its width, a pyramid of
four levels, and the head of differentiable binarisation (DB) that says how likely each pixel is
within a line of text. As it is for inference: re-parameterised blocks are one convolution each,
batch normalisation is folded, and the head's map of thresholds is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpa_plugin_ocr.network import Block

MULTIPLE = 32
"""What the sides of a picture have to be multiples of."""

_STEM = 16
# (kernel, output channels, stride, whether with squeeze and excitation)
_BLOCKS: Sequence[tuple[int, int, int, bool]] = (
    (3, 32, 1, False),
    (3, 48, 2, False),
    (3, 48, 1, False),
    (3, 96, 2, False),
    (3, 96, 1, False),
    (3, 192, 2, False),
    *((5, 192, 1, False),) * 4,
    (5, 384, 2, True),
    (5, 384, 1, True),
    *((5, 384, 1, False),) * 2,
)
# (block whose output is a level, channels it is reduced to), from the finest level to the coarsest
_LEVELS = ((2, 12), (4, 18), (9, 42), (13, 360))
_PYRAMID = 96
_HEAD = 24


class Excited(nn.Module):
    """A convolution, and what it gives once more by the weights of its channels."""

    def __init__(self, incoming: int, outgoing: int, kernel: int) -> None:
        super().__init__()
        self.convolve = nn.Conv2d(incoming, outgoing, kernel, padding=kernel // 2, bias=False)
        self.squeeze = nn.Conv2d(outgoing, outgoing // 4, 1)
        self.excite = nn.Conv2d(outgoing // 4, outgoing, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H, W]."""
        x = self.convolve(x)
        weights = self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True))))
        return x + x * (0.2 * weights + 0.5).clamp(0, 1)  # Paddle's hard sigmoid, not torch's


class TextDetector(nn.Module):
    """Pictures to the logit of text at each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, _STEM, 3, 2, padding=1)
        channels = [_STEM]
        blocks = []
        for kernel, outgoing, stride, excited in _BLOCKS:
            both = (stride, stride)
            blocks.append(Block(kernel, channels[-1], outgoing, both, excited=excited))
            channels.append(outgoing)
        self.blocks = nn.ModuleList(blocks)
        self.reduce = nn.ModuleList(nn.Conv2d(channels[i + 1], few, 1) for i, few in _LEVELS)
        # From the coarsest level to the finest, as all that follows.
        self.enter = nn.ModuleList(Excited(few, _PYRAMID, 1) for _, few in reversed(_LEVELS))
        self.leave = nn.ModuleList(Excited(_PYRAMID, _PYRAMID // 4, 3) for _ in _LEVELS)
        self.head = nn.Conv2d(_PYRAMID, _HEAD, 3, padding=1)
        self.enlarge = nn.ConvTranspose2d(_HEAD, _HEAD, 2, 2)
        self.final = nn.ConvTranspose2d(_HEAD, 1, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W], BGR in [-1, 1], sides multiples of 32 -> logits [B, 1, H, W]."""
        x = self.stem(x)
        levels = []
        reductions = {
            block: reduce for (block, _), reduce in zip(_LEVELS, self.reduce, strict=True)
        }
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in reductions:
                levels.append(reductions[number](x))
        above: Tensor | None = None
        parts = []
        places = zip(self.enter, self.leave, reversed(levels), (8, 4, 2, 1), strict=True)
        for enter, leave, level, times in places:
            level = enter(level)
            if above is not None:
                level = level + F.interpolate(above, scale_factor=2.0)
            above = level
            parts.append(F.interpolate(leave(level), scale_factor=float(times)))
        x = F.relu(self.head(torch.cat(parts, 1)))
        return self.final(F.relu(self.enlarge(x)))
