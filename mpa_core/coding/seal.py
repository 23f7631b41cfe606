"""A seal on the tensors that a fingerprint was taken of: whether they are still the same.

Weights change in many ways that leave no trace on the tensor (``.data``, a NumPy view, shared
memory), so the seal is a checksum of every tensor, looked at each time. Of 21 MB it takes some
8 ms, where coding a picture of 768 x 512 takes 600 ms.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

COMPILED = "_orig_mod."
"""What ``torch.compile`` puts into the names of a module's tensors."""


class _Mark(NamedTuple):
    """A tensor as it was."""

    dtype: torch.dtype
    shape: torch.Size
    crc: int

    @classmethod
    def of(cls, tensor: Tensor) -> _Mark:
        if tensor.is_meta:  # no elements to read, so no base either
            return cls(tensor.dtype, tensor.shape, -1)
        elements = tensor.detach().cpu().contiguous().numpy()
        return cls(tensor.dtype, tensor.shape, zlib.crc32(elements.data))

    def difference(self, tensor: Tensor) -> str | None:
        """How ``tensor`` differs, in words; None if it is the same."""
        if tensor.dtype != self.dtype:
            return f"is {tensor.dtype}, was {self.dtype}"
        if tensor.shape != self.shape:
            return f"is {list(tensor.shape)}, was {list(self.shape)}"
        return None if _Mark.of(tensor) == self else "has other values"


class Seal:
    """Marks of all parameters and buffers of some modules, as they are now.

    Plain data: it is copied and pickled with what holds it, and it holds no tensor.

    Args:
        modules: by the name their tensors begin with. Of the tensors, dtype, shape and bytes count;
            device, memory layout and which object holds them do not.
    """

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self._marks = {name: _Mark.of(tensor) for name, tensor in _tensors(modules)}

    def broken_by(self, modules: dict[str, nn.Module]) -> str | None:
        """The first difference, in words that go on from "because"; None if there is none."""
        left = dict(self._marks)
        for name, tensor in _tensors(modules):
            mark = left.pop(name, None)
            if mark is None:
                return f"tensor {name!r} is new"
            difference = mark.difference(tensor)
            if difference is not None:
                return f"tensor {name!r} {difference}"
        return f"tensor {next(iter(left))!r} is gone" if left else None


def in_training(modules: dict[str, nn.Module]) -> str | None:
    """Name of the first part that is in training mode; None if all are in eval mode."""
    for prefix, module in modules.items():
        for name, part in module.named_modules(prefix=prefix):
            if part.training:
                return name
    return None


def _tensors(modules: dict[str, nn.Module]) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, those that no checkpoint holds included."""
    for prefix, module in modules.items():
        for path, part in module.named_modules(prefix=prefix):
            for group in (part._parameters, part._buffers):
                for name, tensor in group.items():
                    if tensor is not None:
                        yield f"{path}.{name}".replace(COMPILED, ""), tensor
