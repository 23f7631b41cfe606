"""Optional capabilities of a base, which some types of base have and others do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from mpa_core.base.networks import EntropyNetworks

Formats = Mapping[str, Any]
"""Numbers that fix the arithmetic of an exact profile, by layer, as the base's profile defines
them."""


class ExactProfile(Protocol):
    """The exact entropy profile of a base, with which any machine decodes a file alike.

    Its arithmetic is fixed by *formats*, which are chosen once and stored with the base.
    """

    def choose_formats(self, largest: Mapping[str, float] | None = None) -> dict[str, Any]:
        """Choose formats for the present weights.

        Args:
            largest: magnitude of the largest input of each layer, as :meth:`observe` found it; None
                takes formats that fit any input.

        Raises:
            CheckpointError: no formats are exact for such weights.
        """

    def observe(self) -> AbstractContextManager[Mapping[str, float]]:
        """Return a context that records ``largest`` of :meth:`choose_formats`.

        It records the inputs of all layers while the base codes.
        """

    def check(self, formats: Formats, source: str) -> None:
        """Refuse formats of another base.

        Raises:
            CheckpointError: the formats do not fit; the message names ``source``.
        """

    def networks(self, base: nn.Module, formats: Formats) -> EntropyNetworks:
        """Return the networks of the profile, which hold copies of the weights of ``base``.

        Args:
            base: this base, or a copy of it on another device.
            formats: formats that :meth:`check` accepts.

        Raises:
            CheckpointError: a sum could be inexact.
        """

    def to_tensors(self, formats: Formats) -> dict[str, Tensor]:
        """Return the formats as stored: int32 tensors whose names begin with ``exact.``."""

    def from_tensors(self, tensors: Mapping[str, Tensor], source: str) -> dict[str, Any]:
        """Convert the tensors of :meth:`to_tensors` back to formats.

        Raises:
            CheckpointError: the tensors are no formats; the message names ``source``.
        """


class BlockRescaling(NamedTuple):
    """A way to change how fast the blocks of a base learn without changing its function."""

    parts: tuple[nn.Module, ...]
    """The modules whose parameters :attr:`rescale` changes."""
    rescale: Callable[[float], None]
    """Makes the residuals that the blocks add to their input change this many times as fast."""


class MainMLP(NamedTuple):
    """The feed-forward part of a block of ``g_s``: ``fc2(gelu(fc1(norm(tokens))))``."""

    norm: nn.LayerNorm
    fc1: nn.Linear
    fc2: nn.Linear


@dataclass(frozen=True)
class Capabilities:
    """The optional capabilities of a base; an entry is None if the base does not have it.

    Callers that need one refuse a base without it by :func:`mpa_core.base.api.needs`.
    """

    exact: ExactProfile | None = None
    """The exact entropy profile."""
    spread_gains: Callable[[tuple[float, float], tuple[float, float]], None] | None = None
    """Sets the gains of ``y`` and of ``z``, each given as its value at the lowest and at the
    highest quality; levels in between follow geometrically."""
    start_from_photos: Callable[[Tensor], None] | None = None
    """Sets the weights from photos ``[B, 3, H, W]`` in [0, 1], H and W multiples of the latent
    stride, so that training begins with the best linear transform."""
    rescaling: BlockRescaling | None = None
    """Rescaling of the blocks, which changes how fast they learn."""
    main_mlp: Callable[[int, int], MainMLP] | None = None
    """Returns the feed-forward part of a block of ``g_s``, given the indexes of stage and block;
    the MLPs of a task path may start from it."""
