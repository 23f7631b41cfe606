"""Metrics against their definitions; classic codecs at the nearest size."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from mpa_core.errors import ImageError
from mpa_core.evaluation.classic import encode, nearest_in_size
from mpa_core.io.distortion import bits_per_pixel, ms_ssim, psnr


@pytest.fixture(scope="module")
def photo(sample: Image.Image) -> Image.Image:
    return sample.crop((100, 40, 300, 220))


def test_psnr_of_a_known_error():
    black = Image.new("RGB", (4, 4))
    assert psnr(black, black) == math.inf
    off_by_five = Image.new("RGB", (4, 4), (5, 5, 5))
    assert psnr(black, off_by_five) == pytest.approx(20 * math.log10(255 / 5))


def test_bits_per_pixel():
    assert bits_per_pixel(100, (20, 10)) == 4.0


def test_ms_ssim_falls_with_damage(photo: Image.Image):
    values = [ms_ssim(photo, encode(photo, "JPEG", q).decode()) for q in (90, 30, 5)]
    assert ms_ssim(photo, photo) == pytest.approx(1.0)
    assert 1 > values[0] > values[1] > values[2] > 0.5


def test_ms_ssim_needs_five_scales(photo: Image.Image):
    small = photo.crop((0, 0, 160, 180))
    assert ms_ssim(small, small) is None


def test_pictures_of_different_size(photo: Image.Image):
    with pytest.raises(ImageError, match="200x180 and 10x10"):
        psnr(photo, photo.crop((0, 0, 10, 10)))


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP"])
def test_nearest_in_size_is_the_nearest(photo: Image.Image, file_format: str):
    photo = photo.crop((0, 0, 64, 48))
    sizes = np.array([len(encode(photo, file_format, q).data) for q in range(1, 101)])
    for target in (0, 900, 2000, 10**9):
        found = nearest_in_size(photo, file_format, target)
        assert len(found.data) == sizes[found.setting - 1]
        assert abs(len(found.data) - target) == np.abs(sizes - target).min()
        assert found.decode().size == photo.size


def test_no_profile_in_a_classic_file(photo: Image.Image):
    tagged = photo.copy()
    tagged.info["icc_profile"] = b"x" * 5000
    assert encode(tagged, "JPEG", 50).data == encode(photo, "JPEG", 50).data
