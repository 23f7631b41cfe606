"""The protocol of modules that state their own number of multiply-adds."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class DefinesMacs(Protocol):
    """A module whose multiply-adds are counted by its definition.

    Its kernels compute more than the definition asks for, so counting their work would be wrong.
    """

    def macs(self, tokens: Tensor) -> int:
        """Return the number of multiply-adds for ``tokens``, by the definition of the layer."""
