"""Pixels as numbers and back: each level is kept, and the layout in memory stays."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import to_tensor as torchvision_to_tensor

from mpa_core.io.pixels import picture_digest, to_levels, to_pixels, to_tensor, to_unit

LEVELS = np.arange(256, dtype=np.uint8).reshape(8, 32)


@pytest.mark.parametrize("shape", [(5, 4, 3), (2, 5, 4, 3), (1, 1, 3)])
def test_there_and_back(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    x = to_tensor(pixels)
    for one, picture in zip(
        x.reshape(-1, *x.shape[-3:]), pixels.reshape(-1, *shape[-3:]), strict=True
    ):
        assert torch.equal(one, torchvision_to_tensor(picture))
    back = to_pixels(x)
    assert back.flags.c_contiguous
    assert np.array_equal(back, pixels)


def test_a_batch_is_channels_last_and_a_copy():
    pixels = np.zeros((2, 4, 6, 3), np.uint8)
    x = to_tensor(pixels)
    assert x.is_contiguous(memory_format=torch.channels_last)
    pixels[:] = 255
    assert not x.any()


def test_levels_are_rounded_and_bounded():
    levels = torch.from_numpy(LEVELS)
    assert torch.equal(to_levels(to_unit(levels) + 0.49 / 255), levels)
    assert to_levels(torch.tensor([-1.0, 2.0, 0.5], dtype=torch.float64)).tolist() == [0, 255, 128]


def test_what_is_given_stays_as_it_is():
    x = torch.tensor([0.25, 3.0])
    to_levels(x)
    to_unit(x)
    assert x.tolist() == [0.25, 3.0]


def test_a_digest_is_of_shape_and_pixels_whatever_the_layout():
    wanted = hashlib.sha256(b"(8, 32)" + LEVELS.tobytes()).hexdigest()
    assert picture_digest(LEVELS) == wanted
    assert picture_digest(np.asfortranarray(LEVELS)) == wanted
    assert picture_digest(LEVELS.reshape(16, 16)) != wanted
