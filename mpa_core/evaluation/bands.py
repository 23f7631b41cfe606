"""Mean differences over a band of rates, with intervals: steadier than at a single rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from mpa_core.errors import ConfigError
from mpa_core.evaluation.statistics import Array, Estimate, Value, figures_of_draws, interval


@dataclass(frozen=True)
class Band:
    """A band of rates, from ``low`` to ``high`` bits per pixel."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> Band:
        """Read ``LOW:HIGH``.

        Raises:
            ConfigError: not 0 < LOW < HIGH, both finite.
        """
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
    band: Band, points: Sequence[tuple[float, Array, Array]], value: Value
) -> Estimate | None:
    """Return the mean of first minus second over the band, in the logarithm of the rate.

    The differences at the measured rates are interpolated by PCHIP, for all pictures and once more
    for each resample of them; both sides have the same resamples. BD-metrics are averaged in the
    logarithm of the rate, too.

    Args:
        band: the band to average over.
        points: ascending bits per pixel, with the statistics of the first and the second side
            there: [pictures, K], of the same pictures in the same order.
        value: totals [K] -> the value of the metric.

    Returns:
        The mean with its interval; None where the points do not reach from one end of the band to
        the other, or do not rise.
    """
    rates = [rate for rate, _, _ in points]
    if len(rates) < 2 or band.low < rates[0] or band.high > rates[-1] or min(np.diff(rates)) <= 0:
        return None
    # [points, 1 + draws]: all pictures, then each resample.
    leads = np.stack(
        [figures_of_draws(a, value) - figures_of_draws(b, value) for _, a, b in points]
    )
    known = np.isfinite(leads).all(0)
    if not known[0]:
        return None
    low, high = np.log(band.low), np.log(band.high)
    means = PchipInterpolator(np.log(rates), leads[:, known]).integrate(low, high) / (high - low)
    return interval(means[0], means[1:])
