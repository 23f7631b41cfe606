"""A mean difference over a band of rates, with its interval: steadier than one rate's alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from mpa_core.errors import ConfigError
from mpa_core.evaluation.statistics import Array, Estimate, Value, figures_of_draws, interval


@dataclass(frozen=True)
class Band:
    """Rates from ``low`` to ``high`` bits per pixel."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> Band:
        """``LOW:HIGH``; raises :class:`ConfigError` unless 0 < LOW < HIGH, both finite."""
        low, _, high = text.partition(":")
        try:
            band = cls(float(low), float(high))
        except ValueError:
            band = cls(0.0, 0.0)
        if not 0 < band.low < band.high < np.inf:
            raise ConfigError(
                f"{text!r} is no band of rates; write the lowest and the highest bits per pixel, "
                "such as 0.15:0.3"
            )
        return band

    def __str__(self) -> str:
        return f"{self.low:g}:{self.high:g}"


def band_difference(
    band: Band,
    rates: Sequence[float],
    first: Sequence[Array],
    second: Sequence[Array],
    value: Value,
) -> Estimate | None:
    """Mean of first minus second over the band, in the logarithm of the rate, as BD-metrics are.

    The differences at the measured rates are interpolated by PCHIP, for all pictures and once
    more for each draw of them; both sides see the same draws.

    Args:
        band: to average over.
        rates: bits per pixel of each point, ascending.
        first, second: [pictures, K] at each point, of the same pictures in the same order.
        value: totals [K] -> the figure.

    Returns:
        None where the points do not reach from one end of the band to the other.
    """
    if len(rates) < 2 or not (rates[0] <= band.low and band.high <= rates[-1]):
        return None
    if not (np.diff(rates) > 0).all():
        return None
    pairs = [
        (figures_of_draws(a, value), figures_of_draws(b, value))
        for a, b in zip(first, second, strict=True)
    ]
    # [points, 1 + draws]: all pictures, then each draw.
    differences = np.stack([a - b for a, b in pairs])
    known = np.isfinite(differences).all(0)
    low, high = np.log(band.low), np.log(band.high)
    curves = PchipInterpolator(np.log(rates), differences[:, known], axis=0)
    means = curves.integrate(low, high) / (high - low)
    return interval(float(means[0]), means[1:]) if known[0] else None
