"""Entropy model: factorized prior of ``z``, and a Gaussian for ``y`` that is walked step by step.

Each type of base has its own :meth:`EntropyModel.walk` over the coding steps, and it is the only
one: estimation, encoding and decoding hand it a *visitor* that turns the predicted means and scales
of a step into decoded values, each in its own way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mpa_core.base.likelihoods import coded, gaussian
from mpa_core.base.networks import EntropyNetworks
from mpa_core.base.priors import SCALE_MIN, EntropyBottleneck, GaussianConditional
from mpa_core.base.symbols import Decoded, Symbols, as_symbols, finish
from mpa_core.bitstream.cdf import CdfTables
from mpa_core.bitstream.rangecoder import RangeDecoder, RangeEncoder, check_capacity
from mpa_core.errors import CheckpointError

SCALE_MAX, SCALE_LEVELS = 256.0, 64
CDF_BUFFERS = ("_quantized_cdf", "_offset", "_cdf_length")
"""Integer tables of the range coder; they travel in the checkpoint."""

Visitor = Callable[[Any, Tensor, Tensor], Tensor]
"""(step, means, scales), each ``[P, B, C, h, w]``, to decoded values of the same shape. P is the
number of parts that a type of base cuts the positions of a step into; it may be 1."""


def round_straight_through(tensor: Tensor) -> Tensor:
    """Rounding whose gradient is that of the identity."""
    return tensor + (tensor.round() - tensor).detach()


class EntropyModel(nn.Module, ABC):
    """Probabilities of ``z`` and ``y``, and their symbols.

    A subclass is the context model: it walks ``y`` in steps of its own and predicts each from those
    before.

    Args:
        latent_channels: channels M of ``y``.
        hyper_channels: channels of ``z``.
    """

    def __init__(self, latent_channels: int, hyper_channels: int) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        self.z_prior = EntropyBottleneck(hyper_channels)
        table = torch.exp(
            torch.linspace(np.log(SCALE_MIN), np.log(SCALE_MAX), SCALE_LEVELS, dtype=torch.float32)
        )
        self.y_prior = GaussianConditional(table.tolist())
        self._tables: tuple[CdfTables, CdfTables] | None = None

    # ------------------------------------------------------------------ of each type

    @abstractmethod
    def walk(
        self, params: Tensor, visit: Visitor, networks: EntropyNetworks | None = None
    ) -> Tensor:
        """Decode ``y`` step by step.

        Args:
            params: what the base's ``hyper_synthesise`` gives, ``[B, …, H, W]``.
            visit: sees each step once, in coding order.
            networks: of the profile, which predict; None are the model's own.

        Returns:
            ``y_hat`` ``[B, M, H, W]``.
        """

    @abstractmethod
    def take(self, y: Tensor, step: Any) -> Tensor:
        """The values of ``y`` ``[B, M, H, W]`` that are coded in ``step``: ``[P, B, C, h, w]``."""

    @abstractmethod
    def assemble(self, parts: Sequence[Tensor]) -> Tensor:
        """The reverse: what :meth:`take` gives for each step in order, to ``[B, M, H, W]``."""

    @abstractmethod
    def coding_order(self, part: Tensor) -> Tensor:
        """The values of a step of one picture, ``[P, C, h, w]``, in the order of their symbols.

        A view of any shape, since decoding writes into it.
        """

    # ------------------------------------------------------------------ estimation

    def estimate(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """``y_hat`` and the likelihoods of ``y``, both ``[B, M, H, W]``.

        In training mode the likelihoods are those of ``y`` plus uniform noise, and ``y_hat`` is
        rounded with a straight-through gradient. Otherwise both are those of the coded symbols:
        under the coder's own tables, so that their bits are the file's, or, in a model that has
        none yet (:meth:`update`), under the Gaussian.
        """
        likelihoods: list[Tensor] = []

        def visit(step: Any, means: Tensor, scales: Tensor) -> Tensor:
            values = self.take(y, step)
            residual = round_straight_through(values - means)
            if self.training:
                noisy = values - means + torch.rand_like(values) - 0.5
                likelihood = gaussian(noisy, scales, self.y_prior)
            elif self.has_tables:
                likelihood = coded(residual, self._scale_indexes(scales), self.y_prior)
            else:
                likelihood = gaussian(residual, scales, self.y_prior)
            likelihoods.append(likelihood)
            return residual + means

        y_hat = self.walk(params, visit)
        return y_hat, self.assemble(likelihoods)

    def estimate_z(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``z_hat`` and the likelihoods of ``z``, both ``[B, C, h, w]``; see :meth:`estimate`."""
        medians = self.z_medians
        symbols = round_straight_through(z - medians)
        if not self.training and self.has_tables:
            indexes = torch.arange(z.shape[1], device=z.device)[None, :, None, None]
            likelihoods = coded(symbols, indexes.expand_as(z), self.z_prior)
        else:
            # Its matrix products stand before differences of probabilities: no half precision.
            with torch.autocast(z.device.type, enabled=False):
                likelihoods = self.z_prior(z.float(), noisy=self.training)
        return symbols + medians, likelihoods

    @property
    def z_medians(self) -> Tensor:
        """What is subtracted from ``z`` before rounding: ``[1, C, 1, 1]``."""
        return self.z_prior.quantiles[:, 0, 1].detach()[None, :, None, None]

    # ------------------------------------------------------------------ symbols

    def encode_z(self, z: Tensor) -> tuple[Tensor, list[bytes], list[Symbols]]:
        """Symbols ``[B, C, h, w]`` (integers in z's type), one stream per picture, and the symbols
        of each (int32, (C, h, w) order)."""
        symbols = (z - self.z_medians).round()
        z_table = self.tables[0]
        arrays = [as_symbols(picture) for picture in symbols]
        streams = []
        for array in arrays:
            encoder = RangeEncoder()
            encoder.encode(array, self._z_indexes(z.shape[-2:]), z_table)
            streams.append(encoder.finish())
        return symbols, streams, arrays

    def decode_z(
        self,
        streams: Sequence[bytes],
        shape: tuple[int, int],
        like: Tensor,
        *,
        conceal: bool = False,
    ) -> Decoded:
        """Symbols ``[B, C, h, w]``, integers in the type of ``like``.

        With ``conceal``, symbols that a damaged stream has lost are zero, and the result says what
        is wrong with each stream. Without it, damage raises.
        """
        z_table = self.tables[0]
        per_channel = np.full(self.z_prior.channels, shape[0] * shape[1])
        for data in streams:
            # Before anything of the picture's size is allocated.
            if not conceal:
                check_capacity(data, z_table, per_channel, "z")
        indexes = self._z_indexes(shape)
        decoders = [RangeDecoder(data, indexes.size, conceal=conceal) for data in streams]
        arrays = [decoder.decode(indexes, z_table) for decoder in decoders]
        damage = finish(decoders, "z")
        symbols = torch.from_numpy(np.stack(arrays)).to(like)
        return Decoded(symbols.reshape(len(streams), -1, *shape), arrays, damage)

    def _z_indexes(self, shape: Sequence[int]) -> Symbols:
        return np.repeat(np.arange(self.z_prior.channels, dtype=np.int32), shape[0] * shape[1])

    def encode_y(
        self, y: Tensor, params: Tensor, networks: EntropyNetworks | None = None
    ) -> tuple[Tensor, list[bytes], list[Symbols]]:
        """``y_hat``, one stream per picture, and the symbols of each (int32, coding order)."""
        y_table = self.tables[1]
        encoders = [RangeEncoder() for _ in range(len(y))]
        written: list[list[Symbols]] = [[] for _ in encoders]

        def visit(step: Any, means: Tensor, scales: Tensor) -> Tensor:
            residual = (self.take(y, step) - means).round()
            indexes = self._scale_indexes(scales)
            for i, encoder in enumerate(encoders):
                symbols = as_symbols(self.coding_order(residual[:, i]))
                encoder.encode(symbols, as_symbols(self.coding_order(indexes[:, i])), y_table)
                written[i].append(symbols)
            return residual + means

        y_hat = self.walk(params, visit, networks)
        return y_hat, [e.finish() for e in encoders], [np.concatenate(w) for w in written]

    def decode_y(
        self,
        streams: Sequence[bytes],
        params: Tensor,
        networks: EntropyNetworks | None = None,
        *,
        conceal: bool = False,
    ) -> Decoded:
        """``y_hat`` ``[B, M, H, W]``; see :meth:`decode_z`."""
        y_table = self.tables[1]
        count = self.y_symbols((params.shape[-2], params.shape[-1]))
        decoders = [RangeDecoder(data, count, conceal=conceal) for data in streams]
        read: list[list[Symbols]] = [[] for _ in decoders]

        def visit(_: Any, means: Tensor, scales: Tensor) -> Tensor:
            indexes = self._scale_indexes(scales)
            residual = torch.empty_like(means)
            for i, decoder in enumerate(decoders):
                symbols = decoder.decode(as_symbols(self.coding_order(indexes[:, i])), y_table)
                target = self.coding_order(residual[:, i])  # a view: writing to it fills residual
                target.copy_(torch.from_numpy(symbols).reshape(target.shape))
                read[i].append(symbols)
            return residual + means

        y_hat = self.walk(params, visit, networks)
        damage = finish(decoders, "y")
        return Decoded(y_hat, [np.concatenate(r) for r in read], damage)

    def y_symbols(self, shape: tuple[int, int]) -> int:
        """How many symbols ``y`` of this height and width has."""
        return self.latent_channels * shape[0] * shape[1]

    def check_y_streams(self, streams: Sequence[bytes], shape: tuple[int, int]) -> None:
        """Refuse streams that cannot hold the symbols of ``y`` of this height and width.

        Raises:
            BitstreamError: one is too short; nothing of the picture's size was allocated.
        """
        for data in streams:
            check_capacity(data, self.tables[1], self.y_symbols(shape), "y")

    def _scale_indexes(self, scales: Tensor) -> Tensor:
        """Index of the smallest table scale that is at least ``scales`` (the last if none is)."""
        table = self.y_prior.scale_table[:-1].to(scales)
        return torch.searchsorted(table, scales.detach().contiguous())

    # ------------------------------------------------------------------ tables

    @property
    def has_tables(self) -> bool:
        """Whether :meth:`update` was called, here or before the weights were stored."""
        return all(p._quantized_cdf.numel() > 0 for p in (self.z_prior, self.y_prior))

    @property
    def tables(self) -> tuple[CdfTables, CdfTables]:
        """CDF tables of ``z`` and of ``y``.

        Raises:
            CheckpointError: the tables were never computed (:meth:`update`).
        """
        if self._tables is None:
            if not self.has_tables:
                raise CheckpointError(
                    "the entropy model has no CDF tables; a trained model needs model.update() "
                    "once before it can code, and save_pretrained stores them"
                )
            z_tables, y_tables = (
                CdfTables(
                    *(
                        getattr(prior, name).cpu().numpy()
                        for name in ("_quantized_cdf", "_cdf_length", "_offset")
                    )
                )
                for prior in (self.z_prior, self.y_prior)
            )
            for tables, rows, name in (
                (z_tables, self.z_prior.channels, "z"),
                (y_tables, len(self.y_prior.scale_table), "y"),
            ):
                if len(tables) != rows:
                    raise CheckpointError(
                        f"CDF tables of {name}: {len(tables)} rows, expected {rows}; the "
                        "checkpoint is damaged"
                    )
            self._tables = z_tables, y_tables
        return self._tables

    def forget_tables(self) -> None:
        """Let :attr:`tables` be read from the buffers anew, which something else has written."""
        self._tables = None

    def update(self) -> None:
        """Compute the integer CDF tables from the current weights."""
        self._tables = None
        self.z_prior.update()
        self.y_prior.update()

    def aux_loss(self) -> Tensor:
        """Loss of the quantiles of the prior of ``z``; they have an optimiser of their own."""
        loss: Tensor = self.z_prior.loss()
        return loss

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # The tables' sizes follow from the weights they were computed from.
        self._tables = None
        for prior_name in ("z_prior", "y_prior"):
            prior = getattr(self, prior_name)
            for name in CDF_BUFFERS:
                stored = state_dict.get(f"{prefix}{prior_name}.{name}")
                if stored is not None:
                    prior.register_buffer(name, torch.empty_like(stored, dtype=torch.int32))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
