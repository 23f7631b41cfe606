"""Weights of pixels: 1 on lines of text."""

from __future__ import annotations

import numpy as np
import pytest
from mpa_plugin_ocr.importance import corners, text_importance
from PIL import Image

from mpa_core import MPACodec


def pictured(drawn, word: str) -> Image.Image:
    pixels = drawn(word)[0].permute(1, 2, 0).numpy()
    sheet = np.full((160, 256, 3), 255, np.uint8)
    height, width = pixels.shape[:2]
    sheet[40 : 40 + height, 20 : 20 + width] = np.round(255 * pixels)[:, : 256 - 20]
    return Image.fromarray(sheet)


def test_the_text_counts_and_the_rest_hardly(drawn):
    picture = pictured(drawn, "Lemon")
    weights = text_importance(picture, outside=0.1)
    dark = np.asarray(picture.convert("L")) < 128
    assert weights.shape == (160, 256)
    assert weights[dark].mean() > 0.95
    assert set(np.unique(weights)) == {np.float32(0.1), np.float32(1)}
    assert (weights == 1).mean() < 0.4


def test_the_picture_is_seen_upright(drawn):
    picture = pictured(drawn, "Lemon")
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6
    np.testing.assert_array_equal(text_importance(turned), text_importance(picture))


def test_without_text_all_pixels_count_alike():
    assert np.unique(text_importance(Image.new("RGB", (70, 40), "grey"))).tolist() == [1]


@pytest.mark.parametrize("outside", [0, -1, 1.5, float("nan")])
def test_a_weight_outside_of_its_range(outside):
    with pytest.raises(ValueError, match="expected a number above 0 and at most 1"):
        text_importance(Image.new("RGB", (8, 8)), outside=outside)


def test_a_box_is_turned_counter_clockwise():
    found = corners(10, 10, 4, 2, np.pi / 2)
    np.testing.assert_allclose(found, [(9, 12), (9, 8), (11, 8), (11, 12)], atol=1e-9)


def test_the_codec_takes_them(drawn):
    picture = pictured(drawn, "Lemon").crop((0, 20, 128, 84))
    codec = MPACodec.from_pretrained("mpa-small")
    data = codec.encode(picture, 3, effort=1, importance=text_importance(picture))
    assert codec.decode(data).size == picture.size
