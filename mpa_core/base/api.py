"""A base codec as the rest of the SDK sees it: what may be asked of any, of whatever type.

A type of base is a subclass of :class:`Base`, its architecture a subclass of
:class:`mpa_core.config.BaseConfig`, and a plugin offers the two by a
:class:`mpa_core.BaseSpec`. Every method here is abstract or final. What only some types have is in
:class:`mpa_core.base.capabilities.Capabilities`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar, final

import torch
from torch import Tensor, nn

from mpa_core.base.capabilities import Capabilities
from mpa_core.base.entropy import EntropyModel
from mpa_core.base.gains import Quality
from mpa_core.base.networks import EntropyNetworks
from mpa_core.base.routing import StageRouter
from mpa_core.config import BaseConfig
from mpa_core.errors import ConfigError

T = TypeVar("T")


class Base(nn.Module, ABC):
    """Pixels to latents to pixels, and nothing about tasks.

    ``y`` and ``z`` are the values that are rounded and coded, at the scale of the rounding step;
    ``y_hat`` and ``z_hat`` are their decoded values at the same scale. B pictures, H x W pixels, M
    latent and C hyper channels, s and t the latent and the hyper stride of the config.

    Args:
        config: the architecture.

    Attributes:
        config: the architecture.
        entropy: the entropy model, which a subclass sets. Its parameters are all that the
            bitstream's probabilities depend on besides :meth:`hyper_synthesise`.
    """

    entropy: EntropyModel

    def __init__(self, config: BaseConfig) -> None:
        super().__init__()
        self.config = config

    # ------------------------------------------------------------------ of each type

    @abstractmethod
    def analyse(self, x: Tensor, quality: Quality, router: StageRouter | None = None) -> Tensor:
        """``x`` ``[B, 3, H, W]`` in [0, 1] to ``y`` ``[B, M, H/s, W/s]``.

        H and W are multiples of t. ``router`` is asked at the config's ``encoder_path_stages``.
        """

    @abstractmethod
    def hyper_analyse(self, y: Tensor, quality: Quality) -> Tensor:
        """``y`` to ``z`` ``[B, C, H/t, W/t]``."""

    @abstractmethod
    def hyper_synthesise(self, z_hat: Tensor, quality: Quality) -> Tensor:
        """``z_hat`` to what the entropy model takes for ``y``: ``[B, …, H/s, W/s]``."""

    @abstractmethod
    def synthesise(
        self, y_hat: Tensor, quality: Quality, router: StageRouter | None = None
    ) -> Tensor:
        """``y_hat`` to ``x_hat`` ``[B, 3, H, W]``, not clamped.

        ``router`` is asked at the config's ``decoder_path_stages``, once per stage, with the tokens
        ``[B, h, w, dim]`` that enter it; the router it gives, if any, is asked once per block.
        """

    @abstractmethod
    def float_networks(self) -> EntropyNetworks:
        """The float profile: :class:`mpa_core.base.networks.FloatNetworks`, or more than it."""

    @property
    @abstractmethod
    def after_decoding(self) -> tuple[str, ...]:
        """Shell patterns of the names of the parameters that no bit of a picture depends on."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this type of base offers besides."""

    # ------------------------------------------------------------------ of all

    @final
    def quality(self, value: float | Tensor, like: Tensor) -> Quality:
        """``value`` (one number, or ``[B]``) for the batch ``like`` (``[B, ...]``).

        Raises:
            QualityError: a quality outside of the base's levels, or not one per picture.
        """
        return Quality(
            value, levels=self.config.quality_levels, batch=len(like), device=like.device
        )

    @property
    @final
    def like(self) -> Tensor:
        """One of its parameters: for the type and the device that tensors are moved to."""
        return next(self.parameters())

    @property
    @final
    def device(self) -> torch.device:
        """Where it is."""
        return self.like.device

    @property
    @final
    def dtype(self) -> torch.dtype:
        """The type it computes in."""
        return self.like.dtype

    @final
    def latent_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Height and width of ``y`` where ``z`` is of height and width ``shape``."""
        ratio = self.config.hyper_stride // self.config.latent_stride
        return ratio * shape[0], ratio * shape[1]


def needs(capability: T | None, config: BaseConfig, what: str, instead: str) -> T:
    """``capability`` of a base, where it has it.

    Args:
        capability: an entry of the base's :attr:`Base.capabilities`.
        config: of the base.
        what: the name of the capability, as in ``"exact entropy profile"``.
        instead: what to do where it is missing.

    Raises:
        ConfigError: the base has none; the text names its type.
    """
    if capability is None:
        raise ConfigError(f"a base of type {config.type!r} has no {what}; {instead}")
    return capability
