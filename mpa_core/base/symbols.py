"""Conversion of symbols between tensors and the range coder, and the report of decoding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpa_core.bitstream.rangecoder import RangeDecoder

Symbols = NDArray[np.int32]
"""Rounded values as the range coder takes them, one-dimensional."""


class Decoded(NamedTuple):
    """The values decoded from one stream per picture of a batch."""

    values: Tensor
    """``[B, C, H, W]``."""
    symbols: list[Symbols]
    """The symbols of each picture, in coding order."""
    damage: list[str | None]
    """The fault of each picture's stream; None for no fault, and always None where damage is an
    error."""


def as_symbols(tensor: Tensor) -> Symbols:
    """Convert integers, in any type and on any device, to the range coder's input."""
    array: Symbols = tensor.detach().to("cpu", torch.int32).contiguous().numpy().reshape(-1)
    return array


def finish(decoders: Sequence[RangeDecoder], name: str) -> list[str | None]:
    """Check that each stream ends with its last symbol, and report the damage of each.

    Args:
        decoders: one per picture, after their last symbol.
        name: ``"y"`` or ``"z"``, for messages.

    Returns:
        The fault of each stream whose decoder conceals; None for no fault.

    Raises:
        DesyncError: a stream does not end there, and its decoder does not conceal.
    """
    for decoder in decoders:
        decoder.finish()
    return [decoder.report(name) for decoder in decoders]
