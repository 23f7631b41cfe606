"""Symbols between tensors and the range coder, and what decoding them reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpa_core.bitstream.rangecoder import RangeDecoder

Symbols = NDArray[np.int32]
"""Rounded values as the range coder takes them, one dimension."""


class Decoded(NamedTuple):
    """Values that were decoded from one stream per picture of a batch."""

    values: Tensor
    """``[B, C, H, W]``."""
    symbols: list[Symbols]
    """The symbols of each picture, in coding order."""
    damage: list[str | None]
    """What is wrong with the stream of each picture; None: nothing, as always where it raises."""


def as_symbols(tensor: Tensor) -> Symbols:
    """Integers in any type, on any device, as the range coder takes them."""
    array: Symbols = tensor.detach().to("cpu", torch.int32).contiguous().numpy().reshape(-1)
    return array


def finish(decoders: Sequence[RangeDecoder], name: str) -> list[str | None]:
    """Check that each stream ends with its last symbol; what is wrong with those that conceal.

    Raises:
        DesyncError: a stream does not, and its decoder does not conceal.
    """
    for decoder in decoders:
        decoder.finish()
    return [decoder.report(name) for decoder in decoders]
