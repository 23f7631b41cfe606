from __future__ import annotations

import math

import pytest
import torch

from mpa_core.tasks.metric import squared_error_255
from mpa_core.tasks.perceptual import PerceptualDistance
from mpa_core.training.objectives.losses import (
    RateDistortionLoss,
    RateTable,
    bits_per_pixel,
    psnr_from_mse,
)
from mpa_core.training.settings.base import RATE_LAMBDAS, LossSettings


class MeanAbsolute(PerceptualDistance):
    """A distance whose value is known by hand."""

    def forward(self, x, x_hat):
        return (x - x_hat).abs().flatten(1).mean(1)


def batch():
    x = torch.full((2, 3, 4, 4), 0.5)
    x_hat = x + torch.tensor([0.1, 0.2]).view(2, 1, 1, 1)
    likelihoods = {
        "y": torch.full((2, 2, 1, 1), 0.25),
        "z": torch.tensor([0.5, 0.125]).view(2, 1, 1, 1),
    }
    return x, x_hat.requires_grad_(), likelihoods, torch.tensor([1.0, 8.0])


def test_rate_table_at_and_between_levels():
    table = RateTable(RATE_LAMBDAS)
    levels = torch.arange(1.0, 9.0)
    torch.testing.assert_close(table(levels), torch.tensor(RATE_LAMBDAS))
    between = table(torch.tensor([2.25]))
    assert between.item() == pytest.approx(9.32**0.75 * 4.83**0.25, rel=1e-5)


def test_scale_keeps_the_geometric_mean():
    scale = RateTable(RATE_LAMBDAS).scale(torch.arange(1.0, 9.0), 0.5)
    assert scale.log().mean().item() == pytest.approx(0.0, abs=1e-5)
    assert (scale[0] / scale[-1]).item() == pytest.approx(math.sqrt(18.0 / 0.18), rel=1e-4)


def test_rate_and_distortion_per_image():
    x, x_hat, likelihoods, _ = batch()
    torch.testing.assert_close(bits_per_pixel(likelihoods, 16), torch.tensor([5.0, 7.0]) / 16)
    expected = torch.tensor([0.01, 0.04]) * 255**2
    torch.testing.assert_close(squared_error_255(x, x_hat.detach()), expected)
    assert psnr_from_mse(1.0) == pytest.approx(48.1308, abs=1e-4)
    assert psnr_from_mse(0.0) == math.inf


def test_equation_seven_by_hand():
    x, x_hat, likelihoods, quality = batch()
    loss = RateDistortionLoss(LossSettings(perceptual_shift=0), MeanAbsolute())
    terms = loss(x, x_hat, likelihoods, quality, torch.tensor(0.3))
    first = 18.0 * 5 / 16 + 0.01 * 255**2 / 100 + 4.26 * 0.1
    second = 0.18 * 7 / 16 + 0.04 * 255**2 / 100 + 4.26 * 0.2
    assert terms.total.item() == pytest.approx((first + second) / 2 + 10 * 0.3, rel=1e-5)
    assert terms.perceptual.item() == pytest.approx(0.15, rel=1e-5)
    terms.total.backward()
    assert x_hat.grad is not None and x_hat.grad.abs().min() > 0


def test_perceptual_term_off_and_on_some_images():
    x, x_hat, likelihoods, quality = batch()
    settings = LossSettings(perceptual_shift=0, perceptual_images=1)
    loss = RateDistortionLoss(settings, MeanAbsolute())
    zero = torch.tensor(0.0)
    off = loss(x, x_hat, likelihoods, quality, zero, perceptual=False).total
    on = loss(x, x_hat, likelihoods, quality, zero).total
    assert (on - off).item() == pytest.approx(4.26 * 0.1, rel=1e-4)
    without = RateDistortionLoss(settings)(x, x_hat, likelihoods, quality, zero).total
    assert without.item() == off.item()


def test_sqrt_rate_scale_divides_each_image():
    x, x_hat, likelihoods, quality = batch()
    settings = LossSettings(loss_scale="sqrt_rate", perceptual=None)
    total = RateDistortionLoss(settings)(x, x_hat, likelihoods, quality, torch.tensor(0.0)).total
    mean = math.exp(sum(map(math.log, RATE_LAMBDAS)) / 8)
    first = (18.0 * 5 / 16 + 0.01 * 255**2 / 100) / math.sqrt(18.0 / mean)
    second = (0.18 * 7 / 16 + 0.04 * 255**2 / 100) / math.sqrt(0.18 / mean)
    assert total.item() == pytest.approx((first + second) / 2, rel=1e-5)
