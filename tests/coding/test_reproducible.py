"""``reproducible=True``: the encoder's own arithmetic no longer shows in the bytes."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from mpa_core import MPACodec
from mpa_core.bitstream.container import unpack
from mpa_core.io.images import to_rgb_tensor


@pytest.fixture(scope="module")
def codec() -> MPACodec:
    return MPACodec.from_pretrained("mpa-small")


@pytest.fixture(scope="module")
def picture(root) -> Image.Image:
    with Image.open(root / "mpa_core/assets/chelsea.png") as image:
        return image.convert("RGB").crop((100, 60, 292, 188))


@pytest.mark.parametrize("quality", [1.0, 4.3, 8.0])
def test_same_file_but_for_rounding(codec, picture, quality):
    usual = codec.encode(picture, quality)
    precise = codec.encode(picture, quality, reproducible=True)
    assert abs(len(usual) - len(precise)) <= 16
    assert codec.decode(precise).size == picture.size
    assert unpack(precise).profile == unpack(usual).profile


def test_float64_throughout(codec, picture):
    """Its latents differ from the usual ones by float32's rounding, from other float64 by less."""
    model, twin = codec.model, codec.profiles.precise()
    x = to_rgb_tensor(picture).tensor
    with torch.inference_mode():
        q = model.base.quality(4.3, x)
        y, z = model.analyse(x, q)
        y64, z64 = twin.analyse(x, q)
        twice = x.expand(2, -1, -1, -1)
        again, _ = twin.analyse(twice, model.base.quality(4.3, twice))
    assert y64.dtype == z64.dtype == torch.float64
    assert 0 < (y64 - y).abs().max() < 1e-3 and (z64 - z).abs().max() < 1e-3
    assert (again[1] - y64[0]).abs().max() < 1e-10
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_threads(codec, picture):
    before = torch.get_num_threads()
    data = codec.encode(picture, 4.3, reproducible=True)
    try:
        torch.set_num_threads(3)
        assert codec.encode(picture, 4.3, reproducible=True) == data
    finally:
        torch.set_num_threads(before)
