"""The exact profile of a TinyLIC base, behind the interface that all bases share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from mpa_core.base.capabilities import Formats
from mpa_core.base.tinylic.exact import formats as layer_formats
from mpa_core.base.tinylic.exact.fixed import FixedFormat
from mpa_core.base.tinylic.exact.networks import ExactNetworks

if TYPE_CHECKING:
    from mpa_core.base.tinylic.codec import TinyLIC


class TinyLICExactProfile:
    """TinyLIC's :class:`mpa_core.base.capabilities.ExactProfile`, with one format per layer."""

    def __init__(self, base: TinyLIC) -> None:
        self._base = base

    def choose_formats(self, largest: Mapping[str, float] | None = None) -> dict[str, FixedFormat]:
        """See :func:`mpa_core.base.tinylic.exact.formats.choose_formats`."""
        return layer_formats.choose_formats(self._base, largest)

    def observe(self) -> layer_formats.Observer:
        """Return a context that observes the inputs of the float networks' layers."""
        return layer_formats.Observer(self._base)

    def check(self, formats: Formats, source: str) -> None:
        """See :func:`mpa_core.base.tinylic.exact.formats.check_layers`."""
        layer_formats.check_layers(self._base, formats, source)

    def networks(self, base: nn.Module, formats: Formats) -> ExactNetworks:
        """See :class:`mpa_core.base.tinylic.exact.networks.ExactNetworks`."""
        return ExactNetworks(cast("TinyLIC", base), formats)

    def to_tensors(self, formats: Formats) -> dict[str, Tensor]:
        """Return the formats as int32 ``[3]``, by ``exact.`` and the layer's name."""
        return layer_formats.to_tensors(formats)

    def from_tensors(self, tensors: Mapping[str, Tensor], source: str) -> dict[str, FixedFormat]:
        """Convert the tensors of :meth:`to_tensors` back to formats."""
        return layer_formats.from_tensors(tensors, source)
