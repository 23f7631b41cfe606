"""The interface of a base codec: everything that the rest of the SDK may ask of a base.

A type of base is a subclass of :class:`Base`, its architecture a subclass of
:class:`mpa_core.config.BaseConfig`, and a plugin offers the two by a :class:`mpa_core.BaseSpec`.
Every method here is abstract or final. Capabilities that only some types have are in
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
    """A codec that turns pixels into latents and back, and knows nothing about tasks.

    ``y`` and ``z`` are the values that are rounded and coded, at the scale of the rounding step;
    ``y_hat`` and ``z_hat`` are their decoded values at the same scale. In shapes, B is the number
    of pictures, H x W their size in pixels, M and C the numbers of latent and hyper channels, s and
    t the latent and the hyper stride of the config.

    Args:
        config: the architecture.

    Attributes:
        config: the architecture.
        entropy: the entropy model, which a subclass sets. The bitstream's probabilities depend on
            its parameters and on :meth:`hyper_synthesise`, and on nothing else.
    """

    entropy: EntropyModel

    def __init__(self, config: BaseConfig) -> None:
        super().__init__()
        self.config = config

    # ------------------------------------------------------------------ of each type

    @abstractmethod
    def analyse(self, x: Tensor, quality: Quality, router: StageRouter | None = None) -> Tensor:
        """Compute ``y`` ``[B, M, H/s, W/s]`` from ``x`` ``[B, 3, H, W]`` in [0, 1].

        H and W are multiples of t. ``router`` is asked at the config's ``encoder_path_stages``.
        """

    @abstractmethod
    def hyper_analyse(self, y: Tensor, quality: Quality) -> Tensor:
        """Compute ``z`` ``[B, C, H/t, W/t]`` from ``y`` ``[B, M, H/s, W/s]``."""

    @abstractmethod
    def hyper_synthesise(self, z_hat: Tensor, quality: Quality) -> Tensor:
        """Compute the entropy parameters of ``y``, ``[B, …, H/s, W/s]``, from ``z_hat``."""

    @abstractmethod
    def synthesise(
        self, y_hat: Tensor, quality: Quality, router: StageRouter | None = None
    ) -> Tensor:
        """Compute ``x_hat`` ``[B, 3, H, W]``, not clamped, from ``y_hat`` ``[B, M, H/s, W/s]``.

        ``router`` is asked at the config's ``decoder_path_stages``, once per stage, with the tokens
        ``[B, h, w, dim]`` that enter it; if it returns a block router, that is asked once per
        block.
        """

    @abstractmethod
    def float_networks(self) -> EntropyNetworks:
        """Return the networks of the float profile, :class:`mpa_core.base.networks.FloatNetworks`.

        A base may return a subclass of it.
        """

    @property
    @abstractmethod
    def after_decoding(self) -> tuple[str, ...]:
        """Shell patterns of the names of parameters that no bit of a coded picture depends on."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """The optional capabilities that this type of base has."""

    # ------------------------------------------------------------------ of all

    @final
    def quality(self, value: float | Tensor, like: Tensor) -> Quality:
        """Return the quality of each picture of a batch, checked.

        Args:
            value: from 1 to the number of levels; one number, or one per picture (``[B]``).
            like: the batch, ``[B, ...]``; its device is used.

        Raises:
            QualityError: a quality outside the base's levels, or not one per picture.
        """
        return Quality(
            value, levels=self.config.quality_levels, batch=len(like), device=like.device
        )

    @property
    @final
    def like(self) -> Tensor:
        """One of its parameters, to give other tensors its dtype and device by ``tensor.to``."""
        return next(self.parameters())

    @property
    @final
    def device(self) -> torch.device:
        """The device of its parameters."""
        return self.like.device

    @property
    @final
    def dtype(self) -> torch.dtype:
        """The dtype of its parameters, in which it computes."""
        return self.like.dtype

    @final
    def latent_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width of ``y`` for a ``z`` of height and width ``shape``."""
        ratio = self.config.hyper_stride // self.config.latent_stride
        return ratio * shape[0], ratio * shape[1]


def needs(capability: T | None, config: BaseConfig, what: str, instead: str) -> T:
    """Return ``capability``, or refuse a base that does not have it.

    Args:
        capability: an entry of the base's :attr:`Base.capabilities`.
        config: config of the base.
        what: the name of the capability, as in ``"exact entropy profile"``.
        instead: what the user can do without it, for the message.

    Raises:
        ConfigError: ``capability`` is None; the message names the type of the base.
    """
    if capability is None:
        raise ConfigError(f"a base of type {config.type!r} has no {what}; {instead}")
    return capability
