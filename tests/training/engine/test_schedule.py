from __future__ import annotations

from itertools import pairwise

import pytest

from mpa_core.training.engine.schedule import budget_fraction, lr_factor
from mpa_core.training.settings.base import ScheduleSettings


def test_fraction_is_the_larger_of_steps_and_hours():
    assert budget_fraction(30, 1800.0, 100, None) == pytest.approx(0.3)
    assert budget_fraction(30, 1800.0, None, 1.0) == pytest.approx(0.5)
    assert budget_fraction(30, 1800.0, 100, 1.0) == pytest.approx(0.5)
    assert budget_fraction(80, 1800.0, 100, 1.0) == pytest.approx(0.8)
    assert budget_fraction(300, 0.0, 100, None) == 1.0


def test_published_milestone():
    settings = ScheduleSettings()
    assert [lr_factor(settings, f) for f in (0.0, 0.74, 0.75, 1.0)] == [1.0, 1.0, 0.1, 0.1]


@pytest.mark.parametrize("kind", ["cosine", "trapezoid"])
def test_warmup_then_decay_to_the_floor(kind):
    settings = ScheduleSettings(kind=kind, warmup=0.1, floor=0.05, decay_from=0.6)
    factors = [lr_factor(settings, step / 100) for step in range(101)]
    assert 0 < factors[0] < 0.01
    assert factors[5] == pytest.approx(0.5)
    assert factors[10] == max(factors) == pytest.approx(1.0)
    assert all(a >= b for a, b in pairwise(factors[10:]))
    assert factors[100] == pytest.approx(0.05)
    middle = factors[55]
    assert middle == pytest.approx(0.525 if kind == "cosine" else 1.0)
