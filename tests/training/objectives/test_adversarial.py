"""Stage 1b: the discriminator against plain torch, its losses, and what a step trains."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mpa_core.training.objectives.discriminator import (
    Discriminator,
    discriminator_loss,
    generator_loss,
)
from mpa_core.training.settings.adversarial import AdversarialSettings

WIDTHS = (4, 6, 8, 10)


def small(levels=4, latent_channels=5):
    torch.manual_seed(3)
    return Discriminator(latent_channels, levels, widths=WIDTHS, context_channels=3)


def inputs(batch=5, latent_channels=5, side=64):
    generator = torch.Generator().manual_seed(7)
    images = torch.rand(batch, 3, side, side, generator=generator)
    return images, torch.randn(batch, latent_channels, side // 16, side // 16, generator=generator)


def plain(state, row, image, y_hat):
    """HiFiC's discriminator for one picture [3, H, W], from the stored tensors alone."""

    def stored(name):
        return state[f"by_level.{row}.{name}"]

    def normed(x, name):
        weight = stored(f"{name}.parametrizations.weight.original")
        u = stored(f"{name}.parametrizations.weight.0._u")
        v = stored(f"{name}.parametrizations.weight.0._v")
        weight = weight / (u[:, None] * weight.flatten(1) * v[None, :]).sum()
        return F.conv2d(F.pad(x, (1, 1, 1, 1)), weight, stored(f"{name}.bias"), stride=2)

    def leaky(x):
        return torch.where(x > 0, x, 0.2 * x)

    y_hat = F.pad(y_hat[None], (1, 1, 1, 1))
    context = leaky(F.conv2d(y_hat, stored("context.weight"), stored("context.bias")))
    times = image.shape[-1] // context.shape[-1]
    context = context.repeat_interleave(times, 2).repeat_interleave(times, 3)
    x = torch.cat([2 * image[None] - 1, context], 1)
    for index in range(len(WIDTHS)):
        x = leaky(normed(x, f"layers.{index}.conv"))
    return F.conv2d(x, stored("head.weight"), stored("head.bias"))[0, 0]


def test_forward_is_plain_torchs_for_each_picture_at_its_own_level():
    net = small()
    images, y_hat = inputs()
    quality = torch.tensor([4.0, 1.0, 2.4, 4.0, 2.5])
    logits = net(images, y_hat, quality)
    assert logits.shape == (5, 4, 4)
    for index, row in enumerate([3, 0, 1, 3, 2]):
        wanted = plain(net.state_dict(), row, images[index], y_hat[index])
        torch.testing.assert_close(logits[index], wanted, rtol=1e-4, atol=1e-5)


def test_losses_are_equations_5_and_6():
    real, fake = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).unbind(0)
    d_real, d_fake = 1 / (1 + (-real.double()).exp()), 1 / (1 + (-fake.double()).exp())
    for index in range(3):
        wanted = -d_fake[index].log().mean()
        assert float(generator_loss(fake)[index]) == pytest.approx(float(wanted), rel=1e-5)
        wanted = -d_real[index].log().mean() - (1 - d_fake[index]).log().mean()
        assert float(discriminator_loss(real, fake)[index]) == pytest.approx(
            float(wanted), rel=1e-5
        )
    nothing = torch.zeros(2, 4, 4)
    assert generator_loss(nothing).tolist() == pytest.approx([math.log(2)] * 2)
    assert discriminator_loss(nothing, nothing).tolist() == pytest.approx([2 * math.log(2)] * 2)
    # Far from the truth the losses stay finite: they are computed on logits.
    assert generator_loss(torch.full((1, 2, 2), -1e4)).tolist() == [1e4]


def test_only_the_levels_seen_get_gradients():
    net = small()
    images, y_hat = inputs(batch=2)
    net(images, y_hat, torch.tensor([3.0, 3.0])).sum().backward()
    touched = {
        name.split(".")[1] for name, value in net.named_parameters() if value.grad is not None
    }
    assert touched == {"2"}


def test_norms_move_when_told_to_and_go_to_the_largest_singular_value():
    net = small()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    before = {name: value.clone() for name, value in net.named_buffers()}
    net.train()
    net(*inputs(batch=4), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())
    net.iterate_norms([1])
    moved = {n.split(".")[1] for n, v in net.named_buffers() if not torch.equal(v, before[n])}
    assert moved == {"1"}
    for _ in range(200):
        net.iterate_norms([1])
    for layer in net.by_level[1].layers:
        largest = torch.linalg.matrix_norm(layer.conv.weight.detach().flatten(1), 2)
        assert float(largest) == pytest.approx(1.0, abs=1e-3)


def test_norms_are_taken_in_full_precision_under_autocast():
    net = small()
    images, y_hat = inputs(batch=2)
    quality = torch.tensor([1.0, 2.0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = net(images, y_hat, quality)
        layer = net.by_level[0].layers[0]
        assert layer.conv.weight.dtype == torch.float32
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), net(images, y_hat, quality), rtol=0.1, atol=0.05)
    assert generator_loss(logits).dtype == torch.float32


def test_it_learns_to_tell_blurred_pictures_from_originals(sample):
    side = 128
    pixels = torch.from_numpy(np.array(sample.crop((100, 60, 100 + side, 60 + side))))
    real = pixels.permute(2, 0, 1)[None] / 255
    fake = F.interpolate(F.avg_pool2d(real, 4), scale_factor=4, mode="bilinear")
    y_hat = F.avg_pool2d(real.mean(1, keepdim=True), 16).expand(-1, 5, -1, -1)
    net = small()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    losses = []
    for _ in range(80):
        quality = torch.tensor([2.0, 2.0])
        logits = net(torch.cat([real, fake]), torch.cat([y_hat, y_hat]), quality)
        loss = discriminator_loss(*logits.chunk(2)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        net.iterate_norms([1])
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(2 * math.log(2), rel=0.1)
    assert losses[-1] < 0.8


def test_the_published_constants_are_the_defaults():
    settings = AdversarialSettings()
    assert (settings.weight, settings.lr) == (2.56, 1e-4)
    assert settings.widths == (64, 128, 256, 512)
