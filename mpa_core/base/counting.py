"""Modules whose kernels compute more than their definition asks for."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class DefinesMacs(Protocol):
    """A module that says its own number of multiply-adds, in place of what its kernels do."""

    def macs(self, tokens: Tensor) -> int:
        """Multiply-adds for the input ``tokens``, by the definition of the layer."""
