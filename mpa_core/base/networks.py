"""The networks of an entropy profile: the arithmetic that predicts the symbols."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from mpa_core.base.gains import Quality
from mpa_core.runtime.threads import one_thread

if TYPE_CHECKING:
    from mpa_core.base.api import Base


class EntropyNetworks(Protocol):
    """The networks that predict symbols, in the arithmetic of one profile.

    An entropy model may need further networks for its walk; these are agreed between that model and
    its base.
    """

    @property
    def device(self) -> torch.device:
        """The device on which the networks compute."""

    desync_advice: str
    """Advice to the user for symbols that decode wrongly although the file is intact."""

    def alike(self) -> AbstractContextManager[None]:
        """Return a context in which encoder and decoder compute as equally as this profile can."""

    def hyper_synthesise(self, symbols: Tensor, quality: Quality) -> Tensor:
        """Compute the entropy parameters of ``y`` from the symbols of ``z`` ``[B, C, h, w]``."""


class FloatNetworks:
    """Profile 0: the base's own networks, in float32, on one thread.

    Results depend on the processor, the version of torch and the device.
    """

    desync_advice = (
        "this machine's arithmetic differs from the encoder's, or the file was forged; decode it "
        "on the kind of machine that encoded it, with the same version of torch, and encode with "
        "the exact profile from now on"
    )

    def __init__(self, base: Base) -> None:
        self._base = base

    @property
    def device(self) -> torch.device:
        """The device of the base."""
        return self._base.device

    def alike(self) -> AbstractContextManager[None]:
        """Return a context in which torch uses one thread, whatever the process is set to."""
        return one_thread()

    def hyper_synthesise(self, symbols: Tensor, quality: Quality) -> Tensor:
        """See :class:`EntropyNetworks`."""
        return self._base.hyper_synthesise(symbols + self._base.entropy.z_medians, quality)
