from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import pil_to_tensor

from mpa_core.errors import ConfigError
from mpa_core.tasks.perceptual import build_distance
from mpa_core.tasks.wasserstein import WINDOW, wasserstein_distortion
from mpa_core.training.objectives.losses import loss_distance
from mpa_core.training.settings.base import LossSettings

NAME = "efficientnet-lite0"


def by_loops(wanted: np.ndarray, found: np.ndarray, side: int) -> float:
    """One picture, one layer [C, H, W], as the definition has it."""
    power = (wanted**2).mean()
    values = []
    for a, b in zip(wanted, found, strict=True):
        spread = a.var() + 1e-2 * power
        for top in range(0, a.shape[0] - side + 1, side // 2):
            for left in range(0, a.shape[1] - side + 1, side // 2):
                window = np.s_[top : top + side, left : left + side]
                means = a[window].mean() - b[window].mean()
                deviations = [math.sqrt(x[window].var() + 1e-3 * power) for x in (a, b)]
                values.append((means**2 + (deviations[0] - deviations[1]) ** 2) / spread)
    return float(np.mean(values))


def test_it_is_what_the_definition_says():
    generator = torch.Generator().manual_seed(0)
    fine = torch.randn(2, 2, 3, 48, 48, generator=generator) + 0.5
    coarse = torch.randn(2, 2, 4, 12, 12, generator=generator) * 3
    found = wasserstein_distortion([fine[0], coarse[0]], [fine[1], coarse[1]], 96)
    for image in range(2):
        expected = [
            by_loops(layer[0, image].double().numpy(), layer[1, image].double().numpy(), side)
            for layer, side in ((fine, 24), (coarse, 6))
        ]
        assert found[image].item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_texture_in_other_places_is_near_and_its_mean_is_far():
    """What the distance itself has the other way round."""
    generator = torch.Generator().manual_seed(1)
    texture = torch.randn(1, 8, 96, 96, generator=generator)
    moved, mean = texture.roll((5, 7), (2, 3)), torch.zeros_like(texture)
    near, far = (wasserstein_distortion([texture], [x], 96).item() for x in (moved, mean))
    assert near < 0.05 * far
    assert (texture - moved).square().mean() > 1.5 * (texture - mean).square().mean()


@pytest.mark.parametrize("height", [1, 4, 31, 64])
def test_small_and_flat_pictures_have_finite_gradients(height):
    distance = build_distance(NAME, wasserstein_weight=1.0)
    flat = torch.full((1, 3, height, 33), 0.5)
    for picture in (flat, flat + 1e-3, torch.rand(1, 3, height, 33)):
        x_hat = picture.clone().requires_grad_()
        value = distance(flat, x_hat)
        value.sum().backward()
        assert torch.isfinite(value).all() and torch.isfinite(x_hat.grad).all()
        assert value.item() >= 0


def test_a_picture_does_not_depend_on_the_others_of_its_batch(sample):
    distance = build_distance(NAME, wasserstein_weight=2.0)
    x = torch.stack([pil_to_tensor(sample.crop((i, 50, i + 96, 146))) for i in (0, 200)]).float()
    x = x / 255
    x_hat = torch.nn.functional.avg_pool2d(x, 5, 1, 2)
    alone = torch.cat([distance(x[i : i + 1], x_hat[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(distance(x, x_hat), alone, rtol=1e-4, atol=1e-6)
    assert distance(x, x).abs().max() < 1e-6


def test_the_weight_is_a_setting(sample):
    x = pil_to_tensor(sample.crop((100, 50, 100 + 2 * WINDOW, 50 + 2 * WINDOW)))[None].float() / 255
    x_hat = torch.nn.functional.avg_pool2d(x, 3, 1, 1)

    def value(weight: float) -> float:
        settings = LossSettings(perceptual=NAME, wasserstein_weight=weight)
        return loss_distance(settings)(x, x_hat).item()

    assert value(0.0) == pytest.approx(build_distance(NAME)(x, x_hat).item())
    apart = value(1.0) - value(0.0)
    assert apart > 0.01
    assert value(3.0) - value(0.0) == pytest.approx(3 * apart, rel=1e-4)


def test_it_needs_features():
    assert loss_distance(LossSettings(perceptual=None)) is None
    with pytest.raises(ConfigError, match=r"perceptual is null, so there are no features"):
        loss_distance(LossSettings(perceptual=None, wasserstein_weight=1.0))


@pytest.mark.parametrize("names", ["lpips", (NAME, "lpips")])
def test_a_distance_without_features_says_so(names):
    """Before it asks for weights that would not help."""
    with pytest.raises(ConfigError, match="lpips, which shows no features; take efficientnet"):
        loss_distance(LossSettings(perceptual=names, wasserstein_weight=0.5))
