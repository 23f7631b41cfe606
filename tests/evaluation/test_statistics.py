"""Intervals against theory, Bjøntegaard differences against curves that differ by a factor."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mpa_core.errors import ConfigError
from mpa_core.evaluation.bands import Band, band_difference
from mpa_core.evaluation.statistics import (
    bd_metric,
    bd_rate,
    difference,
    estimate,
    mean_value,
    with_counts,
)

RATES = [0.1, 0.2, 0.4, 0.8, 1.6]


def curve(factor: float = 1.0, shift: float = 0.0, sign: float = 1.0):
    return [(factor * r, sign * (30 + 5 * math.log2(r) + shift)) for r in RATES]


def test_interval_of_a_mean_is_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(30, 2, size=400)
    found = estimate(with_counts(values))
    half = 1.96 * values.std() / math.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.2 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.2 * half)
    assert found.clear


def test_pictures_count_by_their_totals():
    found = estimate(np.array([[1.0, 1.0], [0.0, 99.0]]))
    assert found.value == 0.01


def test_a_paired_difference_is_narrower_than_its_sides():
    hard = np.random.default_rng(1).normal(0, 5, size=60)
    first, second = with_counts(hard + 1.0), with_counts(hard)
    found = difference(first, second)
    assert found.value == pytest.approx(1.0)
    assert found.high - found.low < 1e-9
    assert not difference(first, first).clear


def test_a_figure_of_its_own():
    counts = np.array([[3.0, 1.0, 4.0, 2.0], [1.0, 1.0, 4.0, 2.0]])  # two classes

    def mean_iou(totals):
        return float((totals[:2] / totals[2:]).mean())

    assert estimate(counts, mean_iou).value == pytest.approx((4 / 8 + 2 / 4) / 2)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.25])
def test_bd_rate_of_a_curve_at_a_factor_of_the_bits(factor: float):
    assert bd_rate(curve(), curve(factor)) == pytest.approx(100 * (factor - 1), abs=0.01)
    lower = bd_rate(curve(sign=-1), curve(factor, sign=-1), higher_is_better=False)
    assert lower == pytest.approx(100 * (factor - 1), abs=0.01)


def test_bd_metric_is_the_shift_of_the_curve():
    assert bd_metric(curve(), curve(shift=0.7)) == pytest.approx(0.7, abs=1e-3)
    found = bd_metric(curve(sign=-1), curve(shift=0.7, sign=-1), higher_is_better=False)
    assert found == pytest.approx(-0.7, abs=1e-3)


def test_curves_that_do_not_meet_or_are_too_short():
    assert bd_rate(curve(), curve(shift=100)) is None
    assert bd_rate(curve(), curve()[:3]) is None


def test_points_where_a_curve_turns_back_are_left_out():
    bent = [*curve(0.8), (0.5, 20.0)]
    assert bd_rate(curve(), bent) == pytest.approx(-20, abs=0.01)


BAND_RATES = [0.1, 0.15, 0.22, 0.33]


def leads(slope: float, scatter: float = 0.0):
    """Pictures whose first side is ahead by 2 + slope * log2(rate / 0.1) on average."""
    hard = np.random.default_rng(2).normal(30, 5, size=40)
    own = np.random.default_rng(3).normal(0, scatter, size=40)
    points = [
        (rate, with_counts(hard + own + 2 + slope * math.log2(rate / 0.1)), with_counts(hard))
        for rate in BAND_RATES
    ]
    return points, own.mean()


@pytest.mark.parametrize("band", [Band(0.1, 0.33), Band(0.15, 0.3), Band(0.1, 0.1001)], ids=str)
def test_mean_over_a_band_is_the_integral_in_the_logarithm_of_the_rate(band: Band):
    points, _ = leads(3.0)
    found = band_difference(band, points, mean_value)
    # A straight line in log2 is its value in the middle.
    middle = math.sqrt(band.low * band.high)
    assert found.value == pytest.approx(2 + 3 * math.log2(middle / 0.1))
    assert found.high - found.low < 1e-9  # paired: how hard a picture is plays no part


def test_interval_over_a_band_is_of_the_pictures_not_of_the_points():
    points, offset = leads(0.0, scatter=1.0)
    found = band_difference(Band(0.12, 0.3), points, mean_value)
    alone = difference(*points[0][1:])
    assert found.value == pytest.approx(2 + offset)
    assert tuple(found) == pytest.approx(tuple(alone))  # the same at every rate, so no narrower


def test_a_figure_that_is_no_mean_over_a_band():
    points, _ = leads(1.0)
    found = band_difference(Band(0.1, 0.33), points, lambda t: t[0] / t[1] / 2)
    whole = band_difference(Band(0.1, 0.33), points, mean_value)
    assert found.value == pytest.approx(whole.value / 2)


@pytest.mark.parametrize("band", [Band(0.09, 0.3), Band(0.15, 0.34)], ids=str)
def test_a_band_is_not_extrapolated(band: Band):
    points, _ = leads(1.0)
    assert band_difference(band, points, mean_value) is None
    assert band_difference(Band(0.1, 0.2), points[:1], mean_value) is None


def test_a_band_needs_rising_rates_and_a_figure_of_all_pictures():
    points, _ = leads(1.0)
    band = Band(0.15, 0.3)
    assert band_difference(band, [*points[:2], points[1], *points[2:]], mean_value) is None
    assert band_difference(band, points, lambda _: math.nan) is None


@pytest.mark.parametrize(
    "text", ["", "0.2", "0.3:0.2", "0:0.2", "0.1:inf", "nan:1", "a:b", "1:2:3"]
)
def test_bands_that_are_none(text: str):
    with pytest.raises(ConfigError, match=r"is no band of rates; write .* 0\.15:0\.3"):
        Band.parse(text)


def test_a_band_is_written_as_it_is_read():
    assert Band.parse(str(Band.parse("0.15:0.30"))) == Band(0.15, 0.3)
