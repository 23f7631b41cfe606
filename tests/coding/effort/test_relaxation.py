"""Relaxed rounding: near the real one when it is cold, with gradients, and free of company."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mpa_core import MPACodec
from mpa_core.base.entropy import EntropyModel
from mpa_core.coding.effort.relaxation import decide, relax


@pytest.fixture(scope="module")
def coded() -> tuple[EntropyModel, Tensor, Tensor]:
    """The entropy model of a tiny base, ``y`` and the parameters of two pictures."""
    model = MPACodec.from_preset("mpa-tiny", seed=2).model
    x = torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        q = model.base.quality(3.0, x)
        y, z = model.analyse(x, q)
        z_hat, _ = model.base.entropy.estimate_z(z)
        return model.base.entropy, 3 * y, model.base.hyper_synthesise(z_hat, q)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_what_is_decided_codes_to_itself(coded):
    entropy, y, params = coded
    with torch.no_grad():
        y_hat = decide(entropy, y, params, 0.1)
        again, _ = entropy.estimate(y_hat, params)
    assert torch.equal(y_hat.round(decimals=3), again.round(decimals=3))
    assert (y_hat - y).abs().max() <= 1  # one of the two nearest integers


def test_where_both_integers_cost_the_same_the_nearer_one_is_decided(coded):
    """Symbols that cost the bound's 30 bits either way are rounded as ever."""
    entropy, y, params = coded
    far = y + 1000.3
    with torch.no_grad():
        plain, _ = entropy.estimate(far, params)
        found = decide(entropy, far, params, 0.1)
    # An edge is cut off the odds, and values in the middle may fall to either side.
    assert ((found - plain).abs() < 1e-2).double().mean() > 0.98


def test_cold_relaxed_symbols_are_those_decided(coded):
    entropy, y, params = coded
    with torch.no_grad():
        relaxed = relax(entropy, y, params, 1e-3, generator())
        decided = decide(entropy, y, params, 1e-3)
        _, likelihoods = entropy.estimate(decided, params)
    assert ((relaxed.y_hat - decided).abs() < 1e-2).double().mean() > 0.97
    bits = -likelihoods.log2().sum((1, 2, 3))
    torch.testing.assert_close(relaxed.bits, bits, rtol=0.1, atol=0)


def test_gradients_of_bits_and_values_reach_every_position(coded):
    entropy, y, params = coded
    y = y.clone().requires_grad_(True)
    relaxed = relax(entropy, y, params, 0.5, generator())
    for output in (relaxed.bits.sum(), relaxed.y_hat.sum()):
        (gradient,) = torch.autograd.grad(output, y, retain_graph=True)
        assert gradient.isfinite().all()
        assert (gradient != 0).double().mean() > 0.95


def test_a_picture_does_not_depend_on_its_company(coded):
    entropy, y, params = coded
    with torch.no_grad():
        both = relax(entropy, y, params, 0.5, generator())
        alone = relax(entropy, y[1:], params[1:], 0.5, generator())
    torch.testing.assert_close(both.y_hat[1:], alone.y_hat)
    torch.testing.assert_close(both.bits[1:], alone.bits)


def test_improbable_integers_are_hardly_drawn():
    """With a scale of 0.11, a symbol of 1 costs 20 bits or more: 0.2 stays near 0 however warm."""
    from mpa_core.base.priors import GaussianConditional
    from mpa_core.coding.effort.relaxation import _choose

    class Entropy:
        y_prior = GaussianConditional([0.11, 1.0, 8.0])

    residual = torch.full((1, 1, 1, 1, 3), 0.2)
    scales = torch.tensor([0.11, 1.0, 8.0]).expand_as(residual)
    odds = _choose(Entropy(), residual, scales, 0.5).log_odds.flatten()
    assert odds[0] < -10 < odds[1] < odds[2]
