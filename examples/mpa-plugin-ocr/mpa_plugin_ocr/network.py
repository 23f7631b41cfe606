"""The text recogniser of PP-OCRv4 (mobile) as a plain torch module.

After PaddleOCR (Apache-2.0): a PP-LCNetV3 backbone, an SVTR neck of two transformer blocks along
the line, and a linear layer whose outputs CTC reads. As it is for inference: re-parameterised
blocks are one convolution each, and batch normalisation is folded into the convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEIGHT = 48
"""Height in pixels of the pictures of lines that the network takes."""
STRIDE = 8
"""Columns of a picture for each output."""
CLASSES = 6625
"""Outputs: the blank, 6,623 characters and the space."""

_STEM = 16
# (kernel, output channels, stride (rows, columns), whether with squeeze and excitation)
_BLOCKS: Sequence[tuple[int, int, tuple[int, int], bool]] = (
    (3, 32, (1, 1), False),
    (3, 64, (1, 1), False),
    (3, 64, (1, 1), False),
    (3, 128, (2, 1), False),
    (3, 128, (1, 1), False),
    (3, 240, (1, 2), False),
    *((5, 240, (1, 1), False),) * 4,
    (5, 480, (2, 1), True),
    (5, 480, (1, 1), True),
    (5, 480, (2, 1), False),
    (5, 480, (1, 1), False),
)
_NECK = 120
_HEADS = 8


class Activation(nn.Module):
    """Hard swish, then a learned scale and shift of the whole tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return torch.addcmul(self.shift, F.hardswish(x), self.scale)


class SqueezeExcitation(nn.Module):
    """Channels weighted by what their means say."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // 4, 1)
        self.excite = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        hidden = F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))
        return x * F.hardsigmoid(self.excite(hidden))


class Block(nn.Module):
    """A depthwise and a pointwise convolution, each activated but where both directions halve."""

    def __init__(
        self, kernel: int, incoming: int, outgoing: int, stride: tuple[int, int], *, excited: bool
    ) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            incoming, incoming, kernel, stride, padding=kernel // 2, groups=incoming
        )
        self.first = Activation() if stride != (2, 2) else nn.Identity()
        self.excitation = SqueezeExcitation(incoming) if excited else nn.Identity()
        self.pointwise = nn.Conv2d(incoming, outgoing, 1)
        self.second = Activation()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        x = self.excitation(self.first(self.depthwise(x)))
        return self.second(self.pointwise(x))


class Mixer(nn.Module):
    """A transformer block over the positions of a line, normalised before each part."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-5)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.project = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-5)
        self.expand = nn.Linear(dim, 2 * dim)
        self.contract = nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, C]."""
        batch, length, dim = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, _HEADS, dim // _HEADS)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        x = x + self.project(mixed.transpose(1, 2).reshape(batch, length, dim))
        return x + self.contract(F.silu(self.expand(self.norm2(x))))


class Neck(nn.Module):
    """What the characters of a line tell each other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 8
        self.enter = nn.Conv2d(channels, hidden, (1, 3), padding=(0, 1))
        self.widen = nn.Conv2d(hidden, _NECK, 1)
        self.mixers = nn.ModuleList(Mixer(_NECK) for _ in range(2))
        self.norm = nn.LayerNorm(_NECK, eps=1e-6)
        self.leave = nn.Conv2d(_NECK, channels, 1)
        self.merge = nn.Conv2d(2 * channels, hidden, (1, 3), padding=(0, 1))
        self.final = nn.Conv2d(hidden, _NECK, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, 1, T] -> [B, T, 120]."""
        z = F.silu(self.widen(F.silu(self.enter(x)))).squeeze(2).transpose(1, 2)
        for mixer in self.mixers:
            z = mixer(z)
        z = F.silu(self.leave(self.norm(z).transpose(1, 2)[:, :, None]))
        z = F.silu(self.merge(torch.cat([x, z], 1)))
        return F.silu(self.final(z)).squeeze(2).transpose(1, 2)


class TextRecogniser(nn.Module):
    """Pictures of lines of text to scores of characters, one column for every eight pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, _STEM, 3, 2, padding=1)
        channels = _STEM
        blocks = []
        for kernel, outgoing, stride, excited in _BLOCKS:
            blocks.append(Block(kernel, channels, outgoing, stride, excited=excited))
            channels = outgoing
        self.blocks = nn.ModuleList(blocks)
        self.neck = Neck(channels)
        self.head = nn.Linear(_NECK, CLASSES)

    def features(self, x: Tensor) -> list[Tensor]:
        """What the stem and every block make of [B, 3, 48, W], from the first to the last."""
        found = [self.stem(x)]
        for block in self.blocks:
            found.append(block(found[-1]))
        return found

    def read(self, features: Tensor) -> Tensor:
        """The last of :meth:`features` -> logits [B, W / 8, 6625]."""
        return self.head(self.neck(F.avg_pool2d(features, (3, 2))))

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, 48, W], channels BGR in [-1, 1], W a multiple of 8 -> [B, W / 8, 6625]."""
        return self.read(self.features(x)[-1])
