"""The entropy model: a factorized prior for ``z``, and a Gaussian for ``y``, coded in steps.

Each type of base has its own :meth:`EntropyModel.walk` over the coding steps, and it is the only
one: estimation, encoding and decoding pass it a *visitor*, which turns the predicted means and
scales of a step into decoded values, each in its own way.
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
"""Names of the range coder's integer tables, which the checkpoint holds."""

Visitor = Callable[[Any, Tensor, Tensor], Tensor]
"""A function of (step, means, scales) that returns decoded values; all three tensors are ``[P, B,
C, h, w]``. P is the number of parts into which a type of base divides the positions of a step,
possibly 1."""


def round_straight_through(tensor: Tensor) -> Tensor:
    """Round to integers, with the gradient of the identity."""
    return tensor + (tensor.round() - tensor).detach()


class EntropyModel(nn.Module, ABC):
    """The probabilities of ``z`` and ``y``, and the coding of their symbols.

    A subclass is the context model: it walks ``y`` in steps of its own and predicts each step from
    those before.

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
            params: output of the base's ``hyper_synthesise``, ``[B, …, H, W]``.
            visit: called once for each step, in coding order.
            networks: the profile's networks, which predict; None is the model's own.

        Returns:
            ``y_hat`` ``[B, M, H, W]``.
        """

    @abstractmethod
    def take(self, y: Tensor, step: Any) -> Tensor:
        """Return the values of ``y`` ``[B, M, H, W]`` that ``step`` codes: ``[P, B, C, h, w]``."""

    @abstractmethod
    def assemble(self, parts: Sequence[Tensor]) -> Tensor:
        """Combine the results of :meth:`take` for all steps, in order, to ``[B, M, H, W]``."""

    @abstractmethod
    def coding_order(self, part: Tensor) -> Tensor:
        """Return the values ``[P, C, h, w]`` of a picture's step in the order of their symbols.

        The result is a view of any shape, since decoding writes into it.
        """

    # ------------------------------------------------------------------ estimation

    def estimate(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``y_hat`` and the likelihoods of ``y``, both ``[B, M, H, W]``.

        In training mode the likelihoods are those of ``y`` plus uniform noise, and ``y_hat`` is
        rounded with a straight-through gradient. Otherwise both are those of the coded symbols:
        under the coder's own tables, so that their bits are the file's, or, in a model that has no
        tables yet (:meth:`update`), under the Gaussian.
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
        """Return ``z_hat`` and the likelihoods of ``z``, both ``[B, C, h, w]``.

        They are computed as by :meth:`estimate`.
        """
        medians = self.z_medians
        symbols = round_straight_through(z - medians)
        if not self.training and self.has_tables:
            indexes = torch.arange(z.shape[1], device=z.device)[None, :, None, None]
            likelihoods = coded(symbols, indexes.expand_as(z), self.z_prior)
        else:
            # Probabilities are subtracted after its matrix products: no half precision.
            with torch.autocast(z.device.type, enabled=False):
                likelihoods = self.z_prior(z.float(), noisy=self.training)
        return symbols + medians, likelihoods

    @property
    def z_medians(self) -> Tensor:
        """The medians ``[1, C, 1, 1]``, which are subtracted from ``z`` before rounding."""
        return self.z_prior.quantiles[:, 0, 1].detach()[None, :, None, None]

    # ------------------------------------------------------------------ symbols

    def encode_z(self, z: Tensor) -> tuple[Tensor, list[bytes], list[Symbols]]:
        """Code ``z`` ``[B, C, h, w]``.

        Returns:
            The symbols ``[B, C, h, w]`` (integers in the type of ``z``), one stream per picture,
            and the symbols of each picture (int32, in the order C, h, w).
        """
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
        """Decode the symbols of ``z`` from one stream per picture.

        Args:
            streams: one per picture.
            shape: height and width of ``z``.
            like: the result has its type and device.
            conceal: set symbols that a damaged stream has lost to zero, and report the damage of
                each stream. Without it, damage is an error.

        Returns:
            The symbols ``[B, C, h, w]``, integers in the type of ``like``.

        Raises:
            BitstreamError: a stream is too short for its symbols; nothing of the picture's size was
                allocated.
            DesyncError: a stream does not end with its last symbol.
        """
        z_table = self.tables[0]
        per_channel = np.full(self.z_prior.channels, shape[0] * shape[1])
        for data in streams:
            # Checked before anything of the picture's size is allocated.
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
        """Code ``y`` ``[B, M, H, W]``.

        Returns:
            ``y_hat``, one stream per picture, and the symbols of each picture (int32, in coding
            order).
        """
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
        """Decode ``y_hat`` ``[B, M, H, W]``; arguments and errors are those of :meth:`decode_z`."""
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
        """Return the number of symbols of a ``y`` of this height and width."""
        return self.latent_channels * shape[0] * shape[1]

    def check_y_streams(self, streams: Sequence[bytes], shape: tuple[int, int]) -> None:
        """Refuse streams that cannot hold the symbols of ``y`` of this height and width.

        Raises:
            BitstreamError: a stream is too short; nothing of the picture's size was allocated.
        """
        for data in streams:
            check_capacity(data, self.tables[1], self.y_symbols(shape), "y")

    def _scale_indexes(self, scales: Tensor) -> Tensor:
        """Return the index of the smallest table scale >= ``scales``, else of the last."""
        table = self.y_prior.scale_table[:-1].to(scales)
        return torch.searchsorted(table, scales.detach().contiguous())

    # ------------------------------------------------------------------ tables

    @property
    def has_tables(self) -> bool:
        """Whether the CDF tables exist, from :meth:`update` or from a checkpoint."""
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
        """Have :attr:`tables` read from the buffers again, after they were written from outside."""
        self._tables = None

    def update(self) -> None:
        """Compute the integer CDF tables from the current weights."""
        self._tables = None
        self.z_prior.update()
        self.y_prior.update()

    def aux_loss(self) -> Tensor:
        """Return the loss of the quantiles of ``z``'s prior, which have their own optimiser."""
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
