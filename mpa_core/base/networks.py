"""Which arithmetic stands between bytes and symbols: an entropy profile at work."""

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
    """What predicts symbols, in the arithmetic of one profile.

    Networks that the walk of an entropy model runs besides are between that model and its base.
    """

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    desync_advice: str
    """What to make of symbols that decode wrongly although the file is whole."""

    def alike(self) -> AbstractContextManager[None]:
        """Inside, encoder and decoder compute alike as far as this profile can promise."""

    def hyper_synthesise(self, symbols: Tensor, quality: Quality) -> Tensor:
        """Symbols of ``z`` ``[B, C, h, w]`` to the entropy parameters of ``y``."""


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
        """Where it computes."""
        return self._base.device

    def alike(self) -> AbstractContextManager[None]:
        """One thread, whatever the process is set to."""
        return one_thread()

    def hyper_synthesise(self, symbols: Tensor, quality: Quality) -> Tensor:
        """See :class:`EntropyNetworks`."""
        return self._base.hyper_synthesise(symbols + self._base.entropy.z_medians, quality)
