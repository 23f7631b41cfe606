"""A network of PP-OCRv4 with its weights and its preparation of pictures."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


class PpOcr(nn.Module):
    """A network of the package, in 32 bits, on RGB pictures in [0, 1].

    Args:
        network: with random weights.
        weights: a safetensors file, in 32 or 16 bits.
    """

    def __init__(self, network: nn.Module, weights: Path) -> None:
        super().__init__()
        self.network = network
        stored = load_file(weights)
        network.load_state_dict({name: value.float() for name, value in stored.items()})
        network.to(memory_format=torch.channels_last)

    def prepare(self, images: Tensor) -> Tensor:
        """RGB [N, 3, H, W] in [0, 1] -> BGR in [-1, 1]."""
        return (2 * images - 1).flip(1).contiguous(memory_format=torch.channels_last)
