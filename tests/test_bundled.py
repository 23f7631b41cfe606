"""The weights that ship: held to what the package promises of them, on real photos."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from mpa_core import MPACodec
from mpa_core.bitstream.container import unpack
from mpa_core.checkpoints import bundled_base_of, bundled_bases, read_base_meta
from mpa_core.io.images import to_rgb_tensor

LIMIT_BYTES = 15_000_000


@pytest.fixture(scope="module", params=sorted(bundled_bases()))
def codec(request) -> MPACodec:
    return MPACodec.from_pretrained(request.param)


def test_there_is_a_bundled_base():
    assert "mpa-small" in bundled_bases()


@pytest.mark.parametrize("name", sorted(bundled_bases()))
def test_size_and_card(name):
    folder = bundled_bases()[name]
    assert sum(file.stat().st_size for file in folder.iterdir()) < LIMIT_BYTES
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "license:" in card and "mpa train base" in card


@pytest.mark.parametrize("quality", [1, 4.5, 8])
def test_real_bits_are_the_estimated_ones(codec, photos, quality):
    stride = codec.model.config.hyper_stride
    for photo in photos[:2]:
        with Image.open(photo) as image:
            picture = image.convert("RGB")
        streams = unpack(codec.encode(Image.fromarray(np.asarray(picture)), quality)).streams
        x = to_rgb_tensor(Image.fromarray(np.asarray(picture))).tensor
        padding = (0, -x.shape[-1] % stride, 0, -x.shape[-2] % stride)
        with torch.no_grad():
            out = codec.model(F.pad(x, padding, mode="replicate"), quality)
        bits = sum(float(-v.double().log2().sum()) for v in out["likelihoods"].values())
        real = sum(map(len, streams))
        assert abs(real - bits / 8) <= 0.01 * bits / 8 + 64


@pytest.mark.parametrize(("encoder", "decoder"), [(1, 2), (2, 1), (4, 1)])
def test_decodes_on_another_number_of_threads(codec, photos, encoder, decoder):
    threads = torch.get_num_threads()
    try:
        for photo in photos[:2]:
            with Image.open(photo) as image:
                picture = image.convert("RGB")
            torch.set_num_threads(encoder)
            data = codec.encode(picture, 3)
            assert torch.get_num_threads() == encoder
            torch.set_num_threads(decoder)
            codec.open(data).latents()  # a DesyncError otherwise
    finally:
        torch.set_num_threads(threads)


def test_quality_is_monotone(codec, sample):
    picture = Image.fromarray(np.asarray(sample))
    sizes, errors = [], []
    for quality in range(1, codec.model.config.quality_levels + 1):
        data = codec.encode(picture, quality)
        decoded = codec.decode(data, output="array").astype(float)
        sizes.append(len(data))
        errors.append(float(((decoded - np.asarray(picture)) ** 2).mean()))
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)


def test_better_than_jpeg_at_low_rates(codec, photos):
    """Fewer squared errors than any JPEG that is no larger, on a real photo."""
    with Image.open(photos[0]) as image:
        picture = Image.fromarray(np.asarray(image.convert("RGB")))
    original = np.asarray(picture).astype(float)
    data = codec.encode(picture, 2)
    ours = ((codec.decode(data, output="array") - original) ** 2).mean()
    best = np.inf
    for quality in range(1, 96):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() > len(data):
            break
        decoded = np.asarray(Image.open(buffer)).astype(float)
        best = min(best, float(((decoded - original) ** 2).mean()))
    assert ours < best


@pytest.mark.parametrize("name", sorted(bundled_bases()))
def test_a_base_is_found_by_what_its_files_begin_with(name):
    meta = read_base_meta(bundled_bases()[name])
    for fingerprint in (meta.fingerprint, meta.exact):
        assert bundled_base_of(bytes.fromhex(fingerprint)[:8]) == name
    assert bundled_base_of(bytes(8)) is None
