"""Tables and interpolated rows against mathematics to forty digits."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mpa_core.base.gains import Quality
from mpa_core.base.tinylic.exact import tables
from mpa_core.base.tinylic.exact.rows import QualityRows
from mpa_core.errors import MPAError

SOME = range(0, tables.ENTRIES, 29)


def test_gelu_entries_are_the_nearest_integers():
    entries = tables.gelu_entries()
    with mpmath.workdps(40):
        for i in SOME:
            t = mpmath.mpf(i) / 2**11
            assert entries[i] == int(mpmath.nint(2**17 * t * mpmath.ncdf(-t)))


def test_exp_entries_are_the_nearest_integers():
    entries = tables.exp_entries()
    with mpmath.workdps(40):
        for i in SOME:
            assert entries[i] == int(mpmath.nint(2**16 * mpmath.exp(-mpmath.mpf(i) / 2**10)))


def test_functions():
    x = torch.linspace(-40, 40, 20001, dtype=torch.float64)
    assert (tables.gelu(x) - F.gelu(x)).abs().max() < 1.5e-4
    t = torch.linspace(0, 60, 20001, dtype=torch.float64)
    assert (tables.exp_of_minus(t) * 2.0**-16 - torch.exp(-t)).abs().max() < 5e-4


def test_wrong_arithmetic_is_noticed(monkeypatch):
    tables._table.cache_clear()
    wrong = tables.gelu_entries()
    wrong[5] += 1
    monkeypatch.setattr(tables, "gelu_entries", lambda: wrong)
    with pytest.raises(MPAError, match="not that of IEEE 754"):
        tables.gelu(torch.zeros(1, dtype=torch.float64))
    tables._table.cache_clear()


@pytest.mark.parametrize("quality", [1.0, 1.25, 4 + 1 / 4096, 7.999, 8.0])
def test_rows(quality):
    table = torch.randn(8, 50, generator=torch.Generator().manual_seed(3))
    table[2:5, :4] = 0
    found = QualityRows(table).pick([quality, 3.0])
    assert torch.equal(found[1], table[2].abs().double())
    usual = Quality(quality, levels=8, batch=1).pick(table)[0]
    assert torch.allclose(found[0], usual.double(), rtol=1e-6, atol=0)
    low = int(quality)
    part = quality - low
    with mpmath.workdps(40):
        for i in range(4, 50, 7):
            if not part:
                break
            a, b = (mpmath.mpf(float(table[row, i].abs())) for row in (low - 1, low))
            assert found[0, i] == float(a ** (1 - mpmath.mpf(part)) * b ** mpmath.mpf(part))


def test_rows_need_no_libm():
    """Logarithms are taken in decimal: equal to the last digit of float64 in either direction."""
    row = QualityRows(torch.tensor([[0.1, 3e38], [0.1, 1e-38]])).pick([1.5])[0]
    assert row[0] == float(np.float32(0.1))
    assert abs(row[1] - np.sqrt(float(np.float32(3e38)) * float(np.float32(1e-38)))) < 1e-12
