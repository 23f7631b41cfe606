"""Variable rate: rows by level, geometric interpolation in between."""

from __future__ import annotations

import pytest
import torch

from mpa_core.base.gains import Gains, Quality
from mpa_core.errors import QualityError


def pick(value, table, batch=1):
    return Quality(value, levels=len(table), batch=batch).pick(table)


def test_levels_are_rows_exactly():
    table = torch.randn(8, 5)
    for level in range(1, 9):
        assert torch.equal(pick(level, table)[0], table[level - 1].abs())


def test_between_levels_is_geometric():
    table = torch.tensor([[1.0, -2.0], [4.0, 8.0]])
    assert torch.allclose(pick(1.5, table)[0], torch.tensor([2.0, 4.0]))
    assert torch.allclose(pick(1.25, table)[0], torch.tensor([4.0**0.25, 2 * 4.0**0.25]))


def test_one_quality_per_picture():
    table = torch.rand(8, 5) + 0.1
    rows = pick(torch.tensor([1.0, 3.5, 8.0]), table, batch=3)
    for row, value in zip(rows, (1, 3.5, 8), strict=True):
        assert torch.allclose(row, pick(value, table)[0])


@pytest.mark.parametrize("value", [0, 0.99, 8.01, 9, float("nan"), float("inf"), -3])
def test_outside_is_an_error(value):
    with pytest.raises(QualityError, match="expected 1"):
        pick(value, torch.ones(8, 1))


def test_wrong_number_of_qualities():
    with pytest.raises(QualityError, match="2 qualities for 3 pictures"):
        pick(torch.tensor([1.0, 2.0]), torch.ones(8, 1), batch=3)


def test_spread_starts_levels_apart_and_undoes_itself():
    gains = Gains(4, 8)
    gains.spread(0.5, 8.0)
    assert torch.allclose(gains.gain[:, 0].log().diff(), torch.full((7,), 16.0).log() / 7)
    tensor = torch.randn(2, 4, 3, 3)
    quality = Quality(torch.tensor([2.0, 6.5]), levels=8, batch=2)
    restored = gains.unscale(gains.scale(tensor, quality), quality)
    assert torch.allclose(restored, tensor, atol=1e-6)
