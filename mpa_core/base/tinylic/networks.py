"""The float profile of a TinyLIC base, with the networks of its context model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpa_core.base.networks import FloatNetworks

if TYPE_CHECKING:
    from mpa_core.base.tinylic.codec import TinyLIC


class FloatContextNetworks(FloatNetworks):
    """Hyper-synthesis and :class:`mpa_core.base.tinylic.contexts.ContextNetworks` in float32."""

    def __init__(self, base: TinyLIC) -> None:
        super().__init__(base)
        self.channel_context = base.entropy.channel_context
        self.spatial_context = base.entropy.spatial_context
        self.predict = base.entropy.predict
