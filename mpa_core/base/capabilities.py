"""What one type of base offers and another may not: each an optional object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from mpa_core.base.networks import EntropyNetworks

Formats = Mapping[str, Any]
"""What fixes the arithmetic of an exact profile, by layer, as the base's profile defines it."""


class ExactProfile(Protocol):
    """The exact entropy profile of a base: which numbers its arithmetic computes with.

    Any machine decodes a file of the exact profile alike.
    """

    def choose_formats(self, largest: Mapping[str, float] | None = None) -> dict[str, Any]:
        """Formats for the weights as they are.

        Args:
            largest: magnitude of the largest input of each layer, as :meth:`observe` found it;
                None takes formats that fit any input.

        Raises:
            CheckpointError: no formats are exact for such weights.
        """

    def observe(self) -> AbstractContextManager[Mapping[str, float]]:
        """Inside, ``largest`` of :meth:`choose_formats` is gathered from what the base codes."""

    def check(self, formats: Formats, source: str) -> None:
        """Refuse formats of another base, with a :class:`CheckpointError` that names ``source``."""

    def networks(self, base: nn.Module, formats: Formats) -> EntropyNetworks:
        """The networks of the profile, computed by copies of the weights of ``base``.

        Args:
            base: this base, or a copy of it on another device.
            formats: that :meth:`check` accepts.

        Raises:
            CheckpointError: a sum could be inexact.
        """

    def to_tensors(self, formats: Formats) -> dict[str, Tensor]:
        """The formats as they are stored: int32 tensors, whose names begin with ``exact.``."""

    def from_tensors(self, tensors: Mapping[str, Tensor], source: str) -> dict[str, Any]:
        """The reverse of :meth:`to_tensors`; a :class:`CheckpointError` names ``source``."""


class BlockRescaling(NamedTuple):
    """How fast the blocks of a base learn can be changed without changing its function."""

    parts: tuple[nn.Module, ...]
    """The modules whose parameters :attr:`rescale` changes."""
    rescale: Callable[[float], None]
    """Make what the blocks add to their input change this many times as fast."""


class MainMLP(NamedTuple):
    """The feed-forward part of a block of ``g_s``: ``fc2(gelu(fc1(norm(tokens))))``."""

    norm: nn.LayerNorm
    fc1: nn.Linear
    fc2: nn.Linear


@dataclass(frozen=True)
class Capabilities:
    """What a base offers besides coding; None is what it does not have.

    Whoever needs one refuses a base without it by :func:`mpa_core.base.api.needs`.
    """

    exact: ExactProfile | None = None
    """The exact entropy profile."""
    spread_gains: Callable[[tuple[float, float], tuple[float, float]], None] | None = None
    """Set the gains of ``y`` and of ``z`` at the lowest and the highest quality, geometric in
    between."""
    start_from_photos: Callable[[Tensor], None] | None = None
    """Set the weights from photos ``[B, 3, H, W]`` in [0, 1], H and W multiples of the latent
    stride, so that training begins with the best linear transform."""
    rescaling: BlockRescaling | None = None
    """How fast the blocks learn."""
    main_mlp: Callable[[int, int], MainMLP] | None = None
    """The feed-forward part of a block of ``g_s``, by stage and block: where a path may start."""
