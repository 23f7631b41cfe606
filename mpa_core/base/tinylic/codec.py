"""TinyLIC with variable rate, the base codec of the paper."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from mpa_core.base.api import Base
from mpa_core.base.capabilities import BlockRescaling, Capabilities, MainMLP
from mpa_core.base.gains import Gains, Quality
from mpa_core.base.routing import StageRouter
from mpa_core.base.tinylic.blocks import NSABlock, Stage
from mpa_core.base.tinylic.config import TinyLICConfig
from mpa_core.base.tinylic.context_entropy import ContextEntropy
from mpa_core.base.tinylic.exact.profile import TinyLICExactProfile
from mpa_core.base.tinylic.klt import initialise
from mpa_core.base.tinylic.networks import FloatContextNetworks
from mpa_core.base.tinylic.rescale import rescale_blocks
from mpa_core.base.tinylic.transforms import analysis, drop_path_rates, synthesis


class TinyLIC(Base):
    """The transforms, variable-rate gains and entropy model of SPEC section 1.

    ``y`` is the scaled latent (after its gain) and ``y_hat`` its decoded value (before the inverse
    gain); likewise ``z`` and ``z_hat``.
    """

    config: TinyLICConfig
    entropy: ContextEntropy

    def __init__(self, config: TinyLICConfig) -> None:
        super().__init__(config)
        stages = (config.g_a, config.h_a, config.h_s, config.g_s)
        depths = [[stage.depth for stage in part] for part in stages]
        # Stochastic depth rises along the encoder (g_a, h_a), then again along the decoder.
        encoder = drop_path_rates(depths[0] + depths[1], config.drop_path)
        decoder = drop_path_rates(depths[2] + depths[3], config.drop_path)
        latent, hyper = config.latent_channels, config.hyper_channels
        self.g_a = analysis(
            config.g_a, config, in_channels=3, outer_kernel=5, rates=encoder[: len(depths[0])]
        )
        self.h_a = analysis(
            config.h_a, config, in_channels=latent, outer_kernel=3, rates=encoder[len(depths[0]) :]
        )
        self.h_s = synthesis(
            config.h_s,
            config,
            out_channels=2 * latent,
            outer_kernel=3,
            rates=decoder[: len(depths[2])],
        )
        self.g_s = synthesis(
            config.g_s, config, out_channels=3, outer_kernel=5, rates=decoder[len(depths[2]) :]
        )
        # Start from mid-gray: without it the first hundred steps only learn the mean of pictures.
        nn.init.constant_(self.get_parameter(f"g_s.stages.{len(config.g_s) - 1}.conv.bias"), 0.5)
        self.y_gains = Gains(latent, config.quality_levels)
        self.z_gains = Gains(hyper, config.quality_levels)
        self.entropy = ContextEntropy(config.slices, hyper)

    def analyse(self, x: Tensor, quality: Quality, router: StageRouter | None = None) -> Tensor:
        """Compute ``y`` ``[B, M, H/16, W/16]`` from ``x`` ``[B, 3, H, W]`` in [0, 1]."""
        return self.y_gains.scale(self.g_a(x, quality, router), quality)

    def hyper_analyse(self, y: Tensor, quality: Quality) -> Tensor:
        """Compute ``z`` ``[B, C, H/64, W/64]`` from ``y`` ``[B, M, H/16, W/16]``."""
        return self.z_gains.scale(self.h_a(y, quality), quality)

    def hyper_synthesise(self, z_hat: Tensor, quality: Quality) -> Tensor:
        """Compute the entropy parameters ``[B, 2M, H/16, W/16]`` of ``y`` from ``z_hat``."""
        params: Tensor = self.h_s(self.z_gains.unscale(z_hat, quality), quality)
        return params

    def synthesise(
        self, y_hat: Tensor, quality: Quality, router: StageRouter | None = None
    ) -> Tensor:
        """Compute ``x_hat`` ``[B, 3, H, W]``, not clamped, from ``y_hat``."""
        x_hat: Tensor = self.g_s(self.y_gains.unscale(y_hat, quality), quality, router)
        return x_hat

    def float_networks(self) -> FloatContextNetworks:
        """See :meth:`mpa_core.base.api.Base.float_networks`."""
        return FloatContextNetworks(self)

    @property
    def after_decoding(self) -> tuple[str, ...]:
        """See :attr:`mpa_core.base.api.Base.after_decoding`."""
        return ("g_s.*", "y_gains.inverse_gain")

    @property
    def capabilities(self) -> Capabilities:
        """All capabilities that there are."""
        return Capabilities(
            exact=TinyLICExactProfile(self),
            spread_gains=self._spread_gains,
            start_from_photos=lambda photos: initialise(self, photos),
            rescaling=BlockRescaling(
                (self.g_a, self.g_s), lambda factor: rescale_blocks(self, factor)
            ),
            main_mlp=self._main_mlp,
        )

    def _spread_gains(self, y: tuple[float, float], z: tuple[float, float]) -> None:
        self.y_gains.spread(*y)
        self.z_gains.spread(*z)

    def _main_mlp(self, stage: int, block: int) -> MainMLP:
        chosen = cast(NSABlock, cast(Stage, self.g_s.stages[stage]).blocks[block])
        return MainMLP(chosen.norm2, chosen.mlp.fc1, chosen.mlp.fc2)
