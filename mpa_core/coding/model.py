"""MPAModel: the base codec, the encoder's own side path, and the task paths attached to it.

A module in CompressAI's conventions (``forward``, ``compress``, ``decompress``, ``update``,
``aux_loss``). Sizes are multiples of the base's hyper stride here;
:class:`mpa_core.codec.MPACodec` pads and crops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from mpa_core.arguments import expect, shown
from mpa_core.base.gains import Quality
from mpa_core.base.networks import EntropyNetworks
from mpa_core.base.padding import padded_size
from mpa_core.base.routing import StageRouter
from mpa_core.coding import latents
from mpa_core.coding.seal import COMPILED
from mpa_core.config import BaseConfig, PathConfig
from mpa_core.errors import ConfigError, ImageError, PathNotFoundError
from mpa_core.mix import Mix
from mpa_core.paths.aggregate import Aggregator
from mpa_core.paths.gumbel import GumbelAggregator
from mpa_core.paths.path import TaskPath
from mpa_core.plugins.bases import build_base
from mpa_core.runtime.normal_tensors import normal_tensors
from mpa_core.runtime.surroundings import making_weights, usual_defaults


def encoder_main_share(quality: Tensor, levels: int) -> Tensor:
    """Return the share of tokens on the encoder's main path (SPEC section 2, "Ratio").

    Args:
        quality: any shape, real values from 1 to ``levels``.
        levels: number of quality levels L of the base.

    Returns:
        ``(5**((q - 1)/(L - 1)) - 1) / 4``, float64 in the shape of ``quality``: 0 at the lowest
            quality, 1 at the highest.
    """
    position = (quality.double() - 1) / (levels - 1)
    return (5**position - 1) / 4


class MPAModel(nn.Module):
    """A base codec with multi-path aggregation.

    Args:
        config: architecture of the base, of any type that is installed.

    Raises:
        ConfigError: ``config`` is not a :class:`BaseConfig`.
        PluginError: its type of base is not installed, or cannot be built.

    Attributes:
        base: the base codec.
        encoder_path: side path of the analysis for the tokens that low qualities can do without;
            None where the base has no stages for one.
        paths: task paths by local name.
    """

    def __init__(self, config: BaseConfig) -> None:
        super().__init__()
        expect(config, BaseConfig, "config", "a BaseConfig", ConfigError)
        self.config = config
        self.base = build_base(config)
        self.encoder_path: TaskPath | None = None
        if config.encoder_path_stages:
            self.encoder_path = TaskPath(
                config.encoder_path_stages,
                PathConfig(hidden_ratio=config.encoder_hidden_ratio),
                levels=config.quality_levels,
            )
        self.paths = nn.ModuleDict()

    # ------------------------------------------------------------------ CompressAI's conventions

    @usual_defaults(mixed_precision=True)
    def forward(
        self,
        x: Tensor,
        quality: float | Tensor,
        mix: Mix | str | Mapping[str, float] | None = None,
        *,
        router: StageRouter | None = None,
    ) -> dict[str, Any]:
        """Compute the reconstruction and the likelihoods without coding anything.

        Args:
            x: ``[B, 3, H, W]`` in [0, 1], H and W multiples of ``config.hyper_stride``.
            quality: real, from 1 to ``config.quality_levels``; one number or one per picture
                (``[B]``).
            mix: which paths reconstruct, in which proportions, as :meth:`Mix.of` takes it; None is
                the main path.
            router: a router of the caller's own for ``g_s``, in place of ``mix`` (for training).

        Returns:
            ``x_hat`` (not clamped), ``y_hat`` (the input of ``g_s``, before the inverse gain),
            ``likelihoods`` (of ``y`` and ``z``), ``masks`` (allocation of tokens to paths per
            decoder stage) and, where the encoder's path is in training mode, ``ratio_loss``
            (equation 4 for its predictors).

        Raises:
            ImageError: ``x`` has another shape or type.
            QualityError: a quality outside the base's levels, or not one per picture.
            MixError, PathNotFoundError: ``mix`` does not fit the picture or the paths loaded.
            ConfigError: a path is of another type than the base.
        """
        x = self._check_input(x)
        q = self.base.quality(quality, x)
        encoder = self.encoder_router(q)
        y_hat, likelihoods = self.estimate(x, q, encoder)
        size = (x.shape[-2], x.shape[-1])
        decoder = router if router is not None else self._decoder_router(mix, size, size, len(x))
        result: dict[str, Any] = {
            "x_hat": self.base.synthesise(y_hat, q, decoder),
            "y_hat": y_hat,
            "likelihoods": likelihoods,
            "masks": getattr(decoder, "masks", {}),
        }
        if isinstance(encoder, GumbelAggregator):
            result["ratio_loss"] = encoder.ratio_loss()
        return result

    @usual_defaults()
    @torch.no_grad()
    def compress(
        self,
        x: Tensor,
        quality: float | Tensor,
        *,
        networks: EntropyNetworks | None = None,
        analysis: MPAModel | None = None,
    ) -> dict[str, Any]:
        """Code a batch.

        Args:
            x, quality: see :meth:`forward`.
            networks: arithmetic of the entropy model; None is float32 (profile 0), whose streams
                are those of the paper's code.
            analysis: a copy of this model that computes ``y`` and ``z``, possibly in another
                floating-point type; None is this model.

        Returns:
            ``strings`` ``[[y stream of each picture], [z stream of each picture]]``, ``shape`` (h,
            w) of ``z``, and ``symbols_crc``, one CRC-32 per picture.

        Raises:
            ImageError, QualityError: see :meth:`forward`.
            CheckpointError: the entropy model has no CDF tables (:meth:`update`).
        """
        return latents.as_strings(self.code(x, quality, networks, analysis))

    @usual_defaults()
    @normal_tensors()
    def decompress(
        self,
        strings: Sequence[Sequence[bytes]],
        shape: tuple[int, int],
        quality: float | Tensor,
        mix: Mix | str | Mapping[str, float] | None = None,
        *,
        symbols_crc: Sequence[int] | None = None,
        image_size: tuple[int, int] | None = None,
        networks: EntropyNetworks | None = None,
    ) -> dict[str, Tensor]:
        """Decode a batch.

        Args:
            strings, shape, symbols_crc: as :meth:`compress` returned them; without ``symbols_crc``
                a decoder that loses sync goes unnoticed.
            quality: the quality used to compress.
            mix: see :meth:`forward`.
            image_size: height and width of the picture inside the padded one; region masks of
                ``mix`` have this size. None is the padded size.
            networks: the arithmetic used to compress.

        Returns:
            ``x_hat`` ``[B, 3, H, W]`` in [0, 1].

        Raises:
            BitstreamError: streams that are not valid, or not of this size.
            DesyncError: the decoded symbols are not those that were coded.
            MixError, QualityError, PathNotFoundError, ConfigError: see :meth:`forward`.
        """
        pictures = latents.from_strings(strings, shape, symbols_crc)
        size = None if image_size is None else latents.as_two_sizes(image_size, "image_size")
        with torch.inference_mode():  # faster; the result is cloned outside
            y_hat, _ = latents.decode_latents(self.base, pictures, quality, networks)
            q = self.base.quality(quality, y_hat)
            x_hat = self.reconstruct(y_hat, q, mix, image_size=size)
        return {"x_hat": x_hat.clamp(0, 1)}

    @usual_defaults()
    @normal_tensors()
    def decode_latents(
        self,
        strings: Sequence[Sequence[bytes]],
        shape: tuple[int, int],
        quality: float | Tensor,
        *,
        symbols_crc: Sequence[int] | None = None,
        networks: EntropyNetworks | None = None,
    ) -> tuple[Quality, Tensor]:
        """Decode the latents of a batch, from which all paths reconstruct.

        The arguments and errors are those of :meth:`decompress`.

        Returns:
            The quality of each picture, and ``y_hat`` ``[B, M, h, w]``.
        """
        pictures = latents.from_strings(strings, shape, symbols_crc)
        with torch.inference_mode():
            y_hat, _ = latents.decode_latents(self.base, pictures, quality, networks)
        return self.base.quality(quality, y_hat), y_hat.clone()

    @normal_tensors()
    def update(self) -> None:
        """Compute the integer CDF tables; needed once after training, then stored."""
        with making_weights():
            self.base.entropy.update()

    def aux_loss(self) -> Tensor:
        """Return the loss of the entropy bottleneck's quantiles, a scalar."""
        return self.base.entropy.aux_loss()

    # ------------------------------------------------------------------ parts

    def code(
        self,
        x: Tensor,
        quality: float | Tensor,
        networks: EntropyNetworks | None = None,
        analysis: MPAModel | None = None,
    ) -> list[latents.CodedLatents]:
        """Code a batch as :meth:`compress` does, one record per picture."""
        x = self._check_input(x)
        q = self.base.quality(quality, x)
        y, z = (analysis or self).analyse(x, q)
        return latents.encode_latents(self.base, y, z, q, networks)

    def analyse(self, x: Tensor, quality: Quality) -> tuple[Tensor, Tensor]:
        """Compute ``y`` ``[B, M, H/s, W/s]`` and ``z`` ``[B, C, H/t, W/t]`` in the model's type.

        ``x`` is ``[B, 3, H, W]`` in [0, 1]; s and t are the base's latent and hyper stride.
        """
        x = x.to(self.base.like)
        y = self.base.analyse(x, quality, self.encoder_router(quality))
        return y, self.base.hyper_analyse(y, quality)

    def estimate(
        self, x: Tensor, quality: Quality, encoder: StageRouter | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute latents for :meth:`reconstruct` and their likelihoods, without coding.

        Args:
            x: ``[B, 3, H, W]`` in [0, 1], of the base's type.
            quality: quality of each picture.
            encoder: the router of ``g_a``; None is :meth:`encoder_router`.

        Returns:
            ``y_hat`` ``[B, M, H/s, W/s]`` (s: the latent stride), and the likelihoods of ``y`` and
                ``z`` by name.
        """
        y = self.base.analyse(x, quality, encoder or self.encoder_router(quality))
        z_hat, z = self.base.entropy.estimate_z(self.base.hyper_analyse(y, quality))
        params = self.base.hyper_synthesise(z_hat, quality)
        y_hat, likelihoods = self.base.entropy.estimate(y, params)
        return y_hat, {"y": likelihoods, "z": z}

    def reconstruct(
        self,
        y_hat: Tensor,
        quality: Quality,
        mix: Mix | str | Mapping[str, float] | None = None,
        *,
        image_size: tuple[int, int] | None = None,
        paths: Mapping[str, TaskPath] | None = None,
    ) -> Tensor:
        """Reconstruct a batch from its latents.

        Args:
            y_hat: ``[B, M, h, w]``.
            quality: quality of each picture.
            mix: see :meth:`forward`.
            image_size: height and width of the picture inside the padded one; region masks of
                ``mix`` have this size. None is the padded size.
            paths: the paths by the names in ``mix``; None is :attr:`paths`.

        Returns:
            ``x_hat`` ``[B, 3, H, W]``, padded and not clamped.

        Raises:
            MixError, PathNotFoundError: ``mix`` does not fit the picture or the paths.
            ConfigError: a path is of another type than the base.
        """
        stride = self.config.latent_stride
        padded = (y_hat.shape[-2] * stride, y_hat.shape[-1] * stride)
        router = self._decoder_router(mix, image_size or padded, padded, len(y_hat), paths)
        return self.base.synthesise(y_hat, quality, router)

    def frozen_state(self) -> dict[str, Tensor]:
        """Return the tensors that fix bitstream and main reconstruction: base and encoder path."""
        return {
            name.replace(COMPILED, ""): tensor
            for name, tensor in self.state_dict().items()
            if not name.startswith("paths.")
        }

    def sealed_parts(self) -> dict[str, nn.Module]:
        """Return the modules that hold :meth:`frozen_state`, by name."""
        parts: dict[str, nn.Module] = {"base": self.base}
        if self.encoder_path is not None:
            parts["encoder_path"] = self.encoder_path
        return parts

    @property
    def device(self) -> torch.device:
        """The device of the base."""
        return self.base.device

    def encoder_router(self, quality: Quality) -> StageRouter | None:
        """Return the router of the analysis at this quality; in training mode it passes gradients.

        None where the base has no side path in its encoder.
        """
        if self.encoder_path is None:
            return None
        # Made from Python numbers, not from the tensor: counting tokens must not wait for a device.
        share = encoder_main_share(
            torch.tensor(quality.values, dtype=torch.float32), self.config.quality_levels
        )
        if self.encoder_path.training:
            return GumbelAggregator(self.encoder_path, share, quality.value)
        return Aggregator.for_shares(self.encoder_path, share)

    def _decoder_router(
        self,
        mix: Mix | str | Mapping[str, float] | None,
        image_size: tuple[int, int],
        padded: tuple[int, int],
        batch: int,
        paths: Mapping[str, TaskPath] | None = None,
    ) -> Aggregator | None:
        if mix is None:
            return None
        mix = Mix.of(mix)
        if paths is None:
            self.check_paths(mix)
            paths = {name: cast(TaskPath, self.paths[name]) for name in mix.path_names}
        return Aggregator(paths, mix, image_size=image_size, padded_size=padded, batch=batch)

    def check_paths(self, mix: Mix) -> None:
        """Refuse a mix with paths that cannot reconstruct.

        Raises:
            PathNotFoundError: a path is not loaded.
            ConfigError: a path is of another type than the base.
        """
        missing = [name for name in mix.path_names if name not in self.paths]
        if missing:
            loaded = ", ".join(self.paths) or "none"
            local = missing[0].rpartition(":")[2]
            if local != missing[0] and local in self.paths:
                raise PathNotFoundError(
                    f"a path that is loaded is called by its local name, not {missing[0]!r}; "
                    f"write {local!r}"
                )
            raise PathNotFoundError(
                f"no path {missing[0]!r} is loaded (loaded: {loaded}); "
                f"call load_path({missing[0]!r}) first"
            )
        own = self.base.dtype
        for name in mix.path_names:
            for parameter in self.paths[name].parameters():
                if parameter.dtype != own:
                    raise ConfigError(
                        f"path {name!r} is {parameter.dtype}, its base is {own}; call "
                        f"model.paths[{name!r}].to({own}), or load the path again"
                    )

    def _check_input(self, x: Tensor) -> Tensor:
        """Check ``x``, and move it to the device and type of the weights."""
        stride = self.config.hyper_stride
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.is_meta:
            found = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else shown(x)
            raise ImageError(f"found {found}, expected floats [B, 3, H, W] in [0, 1]")
        if x.ndim != 4 or x.shape[1] != 3:
            raise ImageError(f"found a tensor of shape {tuple(x.shape)}, expected [B, 3, H, W]")
        height, width = x.shape[-2:]
        if height % stride or width % stride or not height or not width:
            fixed_height, fixed_width = padded_size(max(height, 1), max(width, 1), stride)
            raise ImageError(
                f"found {width}x{height} pixels (width x height), expected multiples of {stride}; "
                f"pad to {fixed_width}x{fixed_height}, or use MPACodec, which pads and crops"
            )
        return x.to(self.base.like)
