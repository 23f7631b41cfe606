"""Metrics and their units."""

from __future__ import annotations

import pytest
import torch

from mpa_core.errors import ConfigError, TrainingError
from mpa_core.tasks import DECIBEL, PERCENT, PLAIN, Metric, PathBatch, Unit, psnr_metric

HIGHER = {"higher_is_better": True, "unit": PLAIN}


def test_metrics_add_up_over_pictures():
    batch = PathBatch(torch.zeros(3, 3, 4, 4), {}, torch.ones(3))
    x_hat = torch.tensor([0.1, 0.01, 1.0]).view(3, 1, 1, 1).expand(3, 3, 4, 4)
    psnr = psnr_metric()
    found = psnr.per_picture(x_hat, batch)
    torch.testing.assert_close(found[:, 0], torch.tensor([20.0, 40.0, 0.0], dtype=torch.float64))
    assert psnr.value(found.sum(0)) == pytest.approx(20.0)
    ratio = Metric(lambda x, b: torch.tensor([[1, 2], [3, 4], [0, 2]]), **HIGHER, label="ratio")
    assert ratio.value(ratio.per_picture(x_hat, batch).sum(0)) == 0.5
    wrong = Metric(lambda x, b: torch.zeros(2), **HIGHER, label="wrong")
    with pytest.raises(TrainingError, match=r"metric wrong: .*\(2, 2\) for 3 pictures"):
        wrong.per_picture(x_hat, batch)


@pytest.mark.parametrize(
    ("unit", "value", "text", "difference"),
    [
        (PLAIN, 0.25, "0.2500", ("+0.2500", "")),
        (DECIBEL, 33.0691, "33.07", ("+33.07", "dB")),
        (PERCENT, 0.4934, "49.3", ("+49.3", "points")),
        (Unit("px", digits=1), 3.14159, "3.1", ("+3.1", "px")),
        (Unit("ms", digits=0, factor=1000), -0.0123, "-12", ("-12", "ms")),
    ],
)
def test_values_are_written_in_their_unit(unit, value, text, difference):
    assert unit.text(value) == text
    assert (unit.text(value, sign=True), unit.difference) == difference


@pytest.mark.parametrize(
    ("field", "value"),
    [("digits", -1), ("digits", 1.5), ("digits", "2"), ("factor", 0), ("factor", float("nan"))],
)
def test_units_that_nothing_can_be_written_in(field, value):
    with pytest.raises(ConfigError, match=f"unit 'px': {field} is "):
        Unit("px", **{field: value})


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("unit", "px", "unit is 'px', expected a mpa_core.tasks.Unit"),
        ("statistics", 3, "statistics is 3, expected a function of .x_hat, batch"),
        ("value", 0.5, "value is 0.5, expected a function of the totals"),
        ("higher_is_better", len, "higher_is_better is an object of type builtin_function_or"),
        ("label", None, "label is None, expected text"),
    ],
)
def test_what_makes_no_metric_is_refused_where_it_is_made(field, value, said):
    fields = {"statistics": lambda x, b: torch.zeros(1), **HIGHER, "label": "offset", field: value}
    with pytest.raises(TrainingError, match=said):
        Metric(fields.pop("statistics"), **fields)


def test_all_but_the_statistics_are_given_by_name():
    with pytest.raises(TypeError, match="positional"):
        Metric(lambda x, b: torch.zeros(1), float)
    with pytest.raises(TypeError, match="unit"):
        Metric(lambda x, b: torch.zeros(1), higher_is_better=True)


def test_statistics_and_figures_are_numbers():
    batch = PathBatch(torch.zeros(1, 3, 4, 4), {}, torch.ones(1))
    with pytest.raises(TrainingError, match=r"offset: statistics are 0\.5, expected a tensor"):
        Metric(lambda x, b: 0.5, **HIGHER, label="offset").per_picture(batch.images, batch)
    metric = Metric(lambda x, b: torch.zeros(1), **HIGHER, value=lambda totals: "much", label="o")
    with pytest.raises(TrainingError, match=r"metric o: value gave 'much', expected one number"):
        metric.figure(torch.ones(2))
