"""Rows of per-quality tables between two levels, without the platform's ``pow``.

``|a|**(1 - l) * |b|**l`` is e**((1 - l) ln|a| + l ln|b|): :mod:`decimal` gives both functions
correctly rounded to as many digits as asked for, the same everywhere.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import lru_cache

import torch
from torch import Tensor

_DIGITS = 25
"""Significant decimal digits; float64 has 16."""
_ARITHMETIC = Context(
    prec=_DIGITS, rounding=ROUND_HALF_EVEN, Emin=-999999, Emax=999999, clamp=0, traps=[], flags=[]
)
"""Complete on its own, since ``decimal.DefaultContext`` may have been changed in the process."""
_KEPT = 512


class QualityRows:
    """A table ``[L, C]`` of magnitudes, read at real-valued qualities.

    Args:
        table: float32; signs are dropped (SPEC section 1, "Variable rate").
    """

    def __init__(self, table: Tensor) -> None:
        self.device = table.device
        self.levels = len(table)
        self._table: list[list[float]] = table.detach().abs().double().cpu().tolist()
        self._row = lru_cache(maxsize=_KEPT)(self._interpolated)
        self._logs = lru_cache(maxsize=None)(self._logarithms)

    def pick(self, qualities: list[float]) -> Tensor:
        """Return the row for each quality, from 1 to L: float64 ``[B, C]``."""
        return torch.stack([self._row(value) for value in qualities])

    @torch.inference_mode(False)
    def _interpolated(self, quality: float) -> Tensor:
        low = min(math.floor(quality), self.levels)
        part = quality - low
        if part == 0:
            row = self._table[low - 1]
        else:
            with localcontext(_ARITHMETIC):
                weight = Decimal(part)
                row = [
                    float((a + (b - a) * weight).exp()) if a is not None and b is not None else 0.0
                    for a, b in zip(self._logs(low - 1), self._logs(low), strict=True)
                ]
        return torch.tensor(row, dtype=torch.float64, device=self.device)

    def _logarithms(self, index: int) -> list[Decimal | None]:
        with localcontext(_ARITHMETIC):
            return [Decimal(value).ln() if value else None for value in self._table[index]]
