"""Confidence intervals by resampling photos, and Bjøntegaard's differences of curves.

Values of metrics are functions of totals over pictures (:class:`mpa_core.tasks.Metric`), so that
resampling with replacement is one product of a matrix of counts with the statistics of each. What
is called a picture here is what is drawn: a photo, with all pictures that a protocol makes of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpa_core.requirements import missing

Array = NDArray[np.float64]
Value = Callable[[Array], float]
"""Function from totals [K] to the value of a metric."""

DRAWS = 2000
LEVEL = 0.95
_SEED = 20240919
_FEWEST_POINTS = 4


class Estimate(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def mean_value(totals: Array) -> float:
    """Return the mean, given totals ``(sum, count)``."""
    return float(totals[0] / totals[1]) if totals[1] else float("nan")


def estimate(per_picture: Array, value: Value = mean_value) -> Estimate:
    """Return the value of [pictures, K] and its interval (percentiles of the bootstrap)."""
    found = figures_of_draws(per_picture, value)
    return interval(found[0], found[1:])


def difference(first: Array, second: Array, value: Value = mean_value) -> Estimate:
    """Return first minus second, of the same pictures in the same order.

    Both are resampled together.
    """
    found = figures_of_draws(first, value) - figures_of_draws(second, value)
    return interval(found[0], found[1:])


def figures_of_draws(per_picture: Array, value: Value = mean_value) -> Array:
    """Return the value of [pictures, K], then that of each resample, the same for every call."""
    totals = [per_picture.sum(0), *(_counts(len(per_picture)) @ per_picture)]
    return np.array([value(total) for total in totals])


def with_counts(values: Sequence[float] | Array) -> Array:
    """Convert one number per picture to ``(value, 1)`` per picture, whose value is the mean."""
    return np.stack([np.asarray(values, dtype=np.float64), np.ones(len(values))], axis=1)


def _counts(pictures: int) -> Array:
    """Return how often each resample has each picture: [DRAWS, pictures], always the same."""
    random = np.random.default_rng(_SEED)
    drawn = random.multinomial(pictures, np.full(pictures, 1 / pictures), size=DRAWS)
    return drawn.astype(np.float64)


def interval(value: float, drawn: Sequence[float] | Array) -> Estimate:
    """Return a value with the interval of its resamples; those that are NaN are left out."""
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(drawn, [tail, 100 - tail])
    return Estimate(float(value), float(low), float(high))


# ---------------------------------------------------------------------- Bjøntegaard


Curve = Sequence[tuple[float, float]]
"""(bits per pixel, value) of each setting."""


def bd_rate(anchor: Curve, test: Curve, *, higher_is_better: bool = True) -> float | None:
    """Return the mean difference in bits at equal quality, in percent, of ``test`` to ``anchor``.

    Interpolation is monotone (PCHIP) in the logarithm of the rate, over the range that both curves
    share. Points where a curve turns back (more bits, no better) are left out.

    Args:
        anchor, test: (bits per pixel, value) of each setting.
        higher_is_better: whether a higher value is better.

    Returns:
        None where the curves share no range, or one has fewer than four points.

    Raises:
        MissingDependencyError: ``bjontegaard`` is not installed.
    """
    return _bjontegaard("bd_rate", anchor, test, higher_is_better)


def bd_metric(anchor: Curve, test: Curve, *, higher_is_better: bool = True) -> float | None:
    """Return the mean difference of the value at equal rate; otherwise as :func:`bd_rate`."""
    found = _bjontegaard("bd_psnr", anchor, test, higher_is_better)
    return found if found is None or higher_is_better else -found


def _bjontegaard(name: str, anchor: Curve, test: Curve, higher_is_better: bool) -> float | None:
    try:
        import bjontegaard
    except ImportError as error:
        raise missing("BD-rates need", "bjontegaard", "eval", error) from error
    first, second = (_rising(curve, higher_is_better) for curve in (anchor, test))
    if min(len(first), len(second)) < _FEWEST_POINTS:
        return None
    axis = 1 if name == "bd_rate" else 0
    low = max(min(p[axis] for p in curve) for curve in (first, second))
    high = min(max(p[axis] for p in curve) for curve in (first, second))
    if low >= high:
        return None
    columns = [list(column) for curve in (first, second) for column in zip(*curve, strict=True)]
    with warnings.catch_warnings():
        # It warns where the curves share less than three quarters; the curves are in the report.
        warnings.simplefilter("ignore", UserWarning)
        function = getattr(bjontegaard, name)
        return float(function(*columns, method="pchip", require_matching_points=False))


def _rising(curve: Curve, higher_is_better: bool) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for rate, figure in sorted(curve):
        signed = figure if higher_is_better else -figure
        if not points or (signed > points[-1][1] and rate > points[-1][0]):
            points.append((rate, signed))
    return points
