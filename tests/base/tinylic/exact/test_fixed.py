"""Fixed-point sums against integer arithmetic of Python, and against torch's own convolutions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mpa_core.base.tinylic.exact.fixed import FixedConv, FixedFormat, FixedLinear, weight_digits
from mpa_core.errors import CheckpointError


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def integers(values: torch.Tensor) -> np.ndarray:
    return np.vectorize(int, otypes=[object])(values.numpy())


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 40), st.integers(1, 5), st.integers(2, 14), st.integers(0, 8), st.integers(0, 99)
)
def test_products_are_those_of_integers(inputs, outputs, fraction, magnitude, seed):
    weight, bias = random(outputs, inputs, seed=seed), random(outputs, seed=seed + 1)
    form = FixedFormat(fraction, magnitude, weight_digits(weight, bias, fraction, magnitude))
    layer = FixedLinear(weight, bias, form, "layer")
    values = 2.0**magnitude * random(1, inputs, 7, seed=seed + 2).double()
    values[..., :2] = 2.0**60 * values[..., :2].sign()  # far beyond the clamp
    found = integers(layer(values)[0] * 2.0 ** (form.weight + form.fraction))

    limit = 2 ** (fraction + magnitude)
    rounded = [
        [max(-limit, min(limit, round(v * 2.0**fraction))) for v in row]
        for row in values[0].tolist()
    ]
    scaled = integers((weight.double() * 2.0**form.weight).round())
    offset = integers((bias.double() * 2.0 ** (form.weight + fraction)).round())
    wanted = scaled.dot(np.array(rounded, dtype=object)) + offset[:, None]
    assert (found == wanted).all()


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (9, 4), (70, 300)])
def test_convolution(kernel, size):
    weight, bias = random(5, 6, kernel, kernel), random(5, seed=1)
    form = FixedFormat(10, 4, 20)
    values = random(2, 6, *size, seed=2).double() * 3
    found = FixedConv(weight, bias, form, "conv")(values)
    rounded = form.rounded(values) * 2.0**-10
    exact = (weight.double() * 2**20).round() * 2.0**-20
    offset = (bias.double() * 2**30).round() * 2.0**-30
    assert torch.equal(found, F.conv2d(rounded, exact, offset, padding=kernel // 2))


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (40, 200)])
def test_transposed_convolution(kernel, size):
    weight, bias = random(6, 5, kernel, kernel), random(5, seed=1)
    form = FixedFormat(10, 4, 20)
    values = random(2, 6, *size, seed=2).double() * 3
    found = FixedConv(weight, bias, form, "conv", stride=2)(values)
    rounded = form.rounded(values) * 2.0**-10
    exact = (weight.double() * 2**20).round() * 2.0**-20
    offset = (bias.double() * 2**30).round() * 2.0**-30
    wanted = F.conv_transpose2d(
        rounded, exact, offset, stride=2, padding=kernel // 2, output_padding=1
    )
    assert torch.equal(found, wanted)


def test_strips_are_no_different_from_the_whole(monkeypatch):
    layer = FixedConv(random(5, 6, 5, 5), random(5), FixedFormat(10, 4, 20), "conv")
    up = FixedConv(random(6, 5, 3, 3), random(5), FixedFormat(10, 4, 20), "conv", stride=2)
    values = random(2, 6, 33, 17, seed=2).double()
    whole = layer(values), up(values)
    monkeypatch.setattr("mpa_core.base.tinylic.exact.fixed._STRIP_BYTES", 1)
    assert torch.equal(layer(values), whole[0]) and torch.equal(up(values), whole[1])


def test_sums_that_could_be_inexact_are_refused():
    weight, bias = random(3, 8), random(3)
    digits = weight_digits(weight, bias, 14, 10)
    FixedLinear(weight, bias, FixedFormat(14, 10, digits), "layer")
    with pytest.raises(CheckpointError, match=r"sums of layer could reach 2\*\*"):
        FixedLinear(weight, bias, FixedFormat(14, 10, digits + 3), "layer")
    with pytest.raises(CheckpointError, match="expected numbers within"):
        FixedLinear(weight, bias, FixedFormat(14, 10, 2**31 - 1), "layer")


def test_sums_of_overlapping_taps_count_together():
    # Each tap alone would fit; the nine that meet in one pixel do not.
    weight, bias = torch.ones(1, 1, 3, 3), torch.zeros(1)
    FixedConv(weight[..., :1, :1], bias, FixedFormat(20, 10, 22), "conv")
    with pytest.raises(CheckpointError, match="sums of conv"):
        FixedConv(weight, bias, FixedFormat(20, 10, 22), "conv")


def test_not_a_number_never_fits():
    with pytest.raises(CheckpointError):
        FixedLinear(torch.tensor([[float("nan")]]), torch.zeros(1), FixedFormat(4, 4, 4), "layer")
