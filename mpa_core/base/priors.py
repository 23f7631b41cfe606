"""The two priors: a learned density per channel for ``z``, and a Gaussian for ``y``.

Both are defined as by Ballé et al. (Variational image compression with a scale hyperprior, 2018,
section 2 and appendix 6.1). Parameters and buffers have the names, shapes and first values of
compressai's modules of the same names, and the integer tables are the same: checkpoints and streams
are interchangeable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from mpa_core.bitstream.cdf import PRECISION
from mpa_core.errors import CheckpointError

LIKELIHOOD_MIN = 1e-9
"""Smallest likelihood that is counted: a symbol costs 30 bits at most where rates are estimated."""
TAIL_MASS = 1e-9
"""Probability of the symbols outside a row of the tables, below and above together."""
SCALE_MIN = 0.11
"""Smallest standard deviation of a latent, in units of the quantization step."""
INITIAL_SCALE = 10.0
"""Approximate distance of a new density's tails from its median."""
WIDTHS = (1, 3, 3, 3, 3, 1)
"""Units per layer of the network that is each channel's cumulative distribution."""


class _Bounded(torch.autograd.Function):
    """``max(x, bound)``, whose gradient also passes where it raises ``x`` towards the bound."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, bound: Tensor) -> Tensor:
        ctx.save_for_backward(x, bound)
        return torch.maximum(x, bound)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        x, bound = ctx.saved_tensors  # type: ignore[attr-defined]
        (gradient,) = gradients
        return ((x >= bound) | (gradient < 0)) * gradient, None


class LowerBound(nn.Module):
    """``max(x, bound)``; below the bound the gradient passes only where descent raises ``x``."""

    bound: Tensor

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.register_buffer("bound", torch.tensor([bound], dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``max(x, bound)`` in the shape of ``x``."""
        bounded: Tensor = _Bounded.apply(x, self.bound)
        return bounded


class Prior(nn.Module):
    """The common part of the priors: the bound of their likelihoods, and the range coder's tables.

    The tables are empty until ``update``: ``_quantized_cdf`` ``[n, L]``, ``_cdf_length`` ``[n]``
    and ``_offset`` ``[n]``, int32, see :class:`mpa_core.bitstream.cdf.CdfTables`.
    """

    _offset: Tensor
    _quantized_cdf: Tensor
    _cdf_length: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.likelihood_lower_bound = LowerBound(LIKELIHOOD_MIN)
        for name in ("_offset", "_quantized_cdf", "_cdf_length"):
            self.register_buffer(name, torch.empty(0, dtype=torch.int32))

    def _set_tables(self, pmf: Tensor, tail: Tensor, lengths: Tensor, offset: Tensor) -> None:
        """Set the tables from probabilities.

        Args:
            pmf: ``[n, L - 2]``; the first ``lengths[i]`` entries of row i are used.
            tail: ``[n]``, the probability of all other symbols.
            lengths: ``[n]``, the number of symbols of each row.
            offset: ``[n]``, the symbol of the first column.
        """
        table = np.zeros((len(pmf), pmf.shape[1] + 2), np.int32)
        masses = torch.cat([pmf, tail[:, None]], 1).detach().cpu().numpy()
        for row, mass, length in zip(table, masses, lengths.tolist(), strict=True):
            row[: length + 2] = quantized_cdf(np.append(mass[:length], mass[-1]))
        self._quantized_cdf = torch.from_numpy(table).to(pmf.device)
        self._cdf_length = lengths + 2
        self._offset = offset


class EntropyBottleneck(Prior):
    """A density per channel, each the derivative of a small monotonic network.

    Args:
        channels: number of channels C.
    """

    target: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.matrices = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.factors = nn.ParameterList()
        scale = INITIAL_SCALE ** (1 / (len(WIDTHS) - 1))
        for i, (inputs, outputs) in enumerate(pairwise(WIDTHS)):
            # Its softplus makes the layers together stretch by the initial scale.
            entry = math.log(math.expm1(1 / scale / outputs))
            self.matrices.append(nn.Parameter(torch.full((channels, outputs, inputs), entry)))
            bias = torch.empty(channels, outputs, 1)
            self.biases.append(nn.Parameter(nn.init.uniform_(bias, -0.5, 0.5)))
            if i < len(WIDTHS) - 2:
                self.factors.append(nn.Parameter(torch.zeros(channels, outputs, 1)))
        ends = torch.tensor([-INITIAL_SCALE, 0, INITIAL_SCALE])
        self.quantiles = nn.Parameter(ends.repeat(channels, 1, 1))
        logit = math.log(2 / TAIL_MASS - 1)
        self.register_buffer("target", torch.tensor([-logit, 0, logit]))

    def forward(self, z: Tensor, noisy: bool) -> Tensor:
        """Return the likelihoods of ``z`` ``[B, C, ...]``, in the same shape.

        Values are rounded about the medians or, if ``noisy``, get uniform noise instead.
        """
        by_channel = z.transpose(0, 1).contiguous()
        values = by_channel.reshape(self.channels, 1, -1)
        if noisy:
            values = values + torch.empty_like(values).uniform_(-0.5, 0.5)
        else:
            medians = self.quantiles[:, :, 1:2]
            values = (values - medians).round() + medians
        likelihoods = self.likelihood_lower_bound(self._mass(values)[0])
        return likelihoods.reshape(by_channel.shape).transpose(0, 1).contiguous()

    def loss(self) -> Tensor:
        """Return the distance of the quantiles from tails and median; nothing else trains them."""
        return (self.logits(self.quantiles, fixed=True) - self.target).abs().sum()

    def update(self) -> None:
        """Compute the tables, which cover whole steps from the first quantile to the last."""
        low, median, high = self.quantiles.detach()[:, 0].unbind(1)
        below = (median - low).ceil().int().clamp(min=0)
        above = (high - median).ceil().int().clamp(min=0)
        lengths = below + above + 1
        steps = torch.arange(int(lengths.max()), device=median.device)
        pmf, lower, upper = self._mass(steps + (median - below)[:, None, None], fixed=True)
        # The upper tail of the longest row, as compressai has it: streams depend on it.
        tail = torch.sigmoid(lower[:, 0, 0]) + torch.sigmoid(-upper[:, 0, -1])
        self._set_tables(pmf[:, 0], tail, lengths, -below)

    def _mass(self, values: Tensor, *, fixed: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return the probability of [value - 1/2, value + 1/2] for ``[C, 1, n]``, with logits."""
        lower = self.logits(values - 0.5, fixed=fixed)
        upper = self.logits(values + 0.5, fixed=fixed)
        return torch.sigmoid(upper) - torch.sigmoid(lower), lower, upper

    def logits(self, values: Tensor, *, fixed: bool) -> Tensor:
        """Return the logits of the cumulative distributions at ``values`` ``[C, 1, n]``.

        The result has the same shape. With ``fixed`` the densities get no gradient.
        """
        own: Callable[[Tensor], Tensor] = torch.detach if fixed else lambda parameter: parameter
        for i, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            values = F.softplus(own(matrix)) @ values + own(bias)
            if i < len(self.factors):
                values = values + torch.tanh(own(self.factors[i])) * torch.tanh(values)
        return values


class GaussianConditional(Prior):
    """Tables of zero-mean Gaussians; the likelihoods are in :mod:`.likelihoods`.

    Args:
        scales: standard deviations that have tables, ascending.
    """

    scale_table: Tensor
    scale_bound: Tensor

    def __init__(self, scales: Sequence[float]) -> None:
        super().__init__()
        self.lower_bound_scale = LowerBound(SCALE_MIN)
        self.register_buffer("scale_table", torch.tensor(scales, dtype=torch.float32))
        self.register_buffer("scale_bound", torch.tensor([SCALE_MIN], dtype=torch.float32))

    def update(self) -> None:
        """Compute the tables, which reach as far as the tails have their mass."""
        reach = (self.scale_table * -NormalDist().inv_cdf(TAIL_MASS / 2)).ceil().int()
        lengths = 2 * reach + 1
        steps = torch.arange(int(lengths.max()), device=reach.device)
        distance = (steps - reach[:, None]).abs().float()
        scales = self.scale_table[:, None].float()
        lower = _normal((-0.5 - distance) / scales)
        pmf = _normal((0.5 - distance) / scales) - lower
        self._set_tables(pmf, 2 * lower[:, 0], lengths, -reach)


def _normal(x: Tensor) -> Tensor:
    """Return the cumulative standard normal distribution at ``x``, precise in the lower tail."""
    return 0.5 * torch.erfc(-(0.5**0.5) * x)


def quantized_cdf(masses: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return the integer cumulative distribution for the range coder.

    Args:
        masses: ``[n]``, probabilities, or values in their proportion, up to 1 each.

    Returns:
        ``[n + 1]``, from 0 to 65536, strictly increasing: an entry that rounds to nothing takes 1
            from the first of the smallest entries that can spare it.

    Raises:
        CheckpointError: masses that are no probabilities, or more of them than 16 bits can tell
            apart.
    """
    if not np.isfinite(masses).all() or (masses < 0).any() or len(masses) > 1 << PRECISION:
        raise _no_table("are not finite, are negative or too many")
    counts = np.floor(masses.astype(np.float64) * (1 << PRECISION) + 0.5).astype(np.int64)
    if not counts.any():
        raise _no_table("are all 0")
    widths = (counts << PRECISION) // counts.sum()
    widths[-1] = (1 << PRECISION) - widths[:-1].sum()
    for i in np.flatnonzero(widths == 0):
        widths[np.argmin(np.where(widths > 1, widths, 2 << PRECISION))] -= 1
        widths[i] = 1
    return np.concatenate([[0], np.cumsum(widths)]).astype(np.int32)


def _no_table(why: str) -> CheckpointError:
    return CheckpointError(
        f"the probabilities of a row of CDF tables {why}; the weights of the entropy model "
        "diverged or are damaged"
    )
