"""Exponential moving average of a model's parameters: the weights that are exported."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from mpa_core.errors import CheckpointError

Module = TypeVar("Module", bound=nn.Module)


class ParameterAverage:
    """Averages of named parameters, updated after each optimiser step.

    The decay rises from 0.1 to ``decay`` as (1 + t) / (10 + t), so that a short run does not export
    its random start. With ``decay`` 0 the average equals the parameters.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._live = dict(parameters)
        self._average = {name: value.detach().clone() for name, value in parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move every average towards its parameter."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        live = [value.detach() for value in self._live.values()]
        torch._foreach_lerp_(list(self._average.values()), live, 1.0 - decay)

    def in_copy_of(self, module: Module) -> Module:
        """Return a copy of ``module`` with the averages, in eval mode, without gradients."""
        copied = copy.deepcopy(module).eval().requires_grad_(False)
        parameters = dict(copied.named_parameters())
        for name, value in self._average.items():
            parameters[name].data.copy_(value)
        return copied

    def tensors(self) -> dict[str, Tensor]:
        """Return the averages by parameter name; not copies."""
        return dict(self._average)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], updates: int) -> None:
        """Restore the result of :meth:`tensors`, after ``updates`` updates.

        Raises:
            CheckpointError: the names differ.
        """
        if tensors.keys() != self._average.keys():
            odd = sorted(tensors.keys() ^ self._average.keys())
            raise CheckpointError(
                f"averaged weights do not match the model: {len(odd)} other names, first {odd[0]}"
            )
        for name, value in tensors.items():
            self._average[name].copy_(value)
        self.updates = updates
