"""Targets on real pictures, by the bundled base: what is asked for holds, in few encodings."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mpa_core import MPACodec
from mpa_core.coding.encoding import PictureEncoder
from mpa_core.errors import ImageError, MissingDependencyError, TargetError
from mpa_core.io.distortion import ms_ssim, psnr


@pytest.fixture(scope="module")
def codec() -> MPACodec:
    return MPACodec.from_pretrained("mpa-small")


@pytest.fixture
def encodings(monkeypatch) -> list[float]:
    """The qualities that were encoded."""
    qualities: list[float] = []
    code = PictureEncoder._code

    def counted(self: Any, pictures: Any, quality: float) -> list[bytes]:
        qualities.append(quality)
        return code(self, pictures, quality)

    monkeypatch.setattr(PictureEncoder, "_code", counted)
    return qualities


def piece(photo: Image.Image, width: int, height: int) -> Image.Image:
    """The middle of a photo."""
    left, top = (photo.width - width) // 2, (photo.height - height) // 2
    return photo.crop((left, top, left + width, top + height)).convert("RGB")


def turned(orientation: int) -> bytes:
    """An EXIF block."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def check_size(codec: MPACodec, data: bytes, limit: int) -> None:
    assert len(data) <= limit
    assert limit - len(data) <= max(0.02 * limit, 64) or codec.open(data).quality == 8


def test_every_photo_has_the_size_that_is_asked_for(codec, photos, encodings):
    for number, file in enumerate(photos):
        with Image.open(file) as photo:
            picture = piece(photo, 128, 96)
        limit = (600, 1000, 1600, 3000)[number % 4]
        encodings.clear()
        data = codec.encode(picture, target_size=limit)
        check_size(codec, data, limit)
        assert len(encodings) <= 8
        assert codec.open(data).quality in encodings
        assert codec.encode(picture, codec.open(data).quality) == data


def test_every_photo_has_the_psnr_that_is_asked_for(codec, photos, encodings):
    for number, file in enumerate(photos[::4]):
        with Image.open(file) as photo:
            picture = piece(photo, 128, 96)
        least = (28, 31, 34)[number % 3]
        encodings.clear()
        try:
            data = codec.encode(picture, target_psnr=least)
        except TargetError:
            best = codec.encode(picture, quality=8)
            assert psnr(picture, codec.decode(best)) < least
            continue
        assert psnr(picture, codec.decode(data)) >= least
        assert len(encodings) <= 8


@pytest.mark.parametrize("least", [31.0, 34.0])
def test_the_psnr_of_a_photo_is_hardly_better_than_asked_for(codec, sample, encodings, least):
    picture = piece(sample, 320, 256)
    data = codec.encode(picture, target_psnr=least)
    assert least <= psnr(picture, codec.decode(data)) <= least + 0.05
    assert len(encodings) <= 8


def test_ms_ssim(codec, sample, encodings):
    picture = piece(sample, 224, 192)
    data = codec.encode(picture, target_ms_ssim=0.97)
    found = ms_ssim(picture, codec.decode(data))
    assert 0.97 <= found <= 1 - 0.03 * 10**-0.005
    assert len(encodings) <= 8


def test_bits_per_pixel_are_those_of_the_whole_file(codec, sample):
    picture = piece(sample, 128, 96)
    picture.info["exif"] = turned(6)
    coded = codec.open(codec.encode(picture, target_bpp=0.9))
    assert (coded.width, coded.height) == (96, 128)
    assert 0.882 - 64 * 8 / (128 * 96) <= coded.bpp <= 0.9


def test_metadata_count(codec, sample, encodings):
    picture = piece(sample, 128, 96)
    profile = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes()
    data = codec.encode(picture, target_size=6500, icc_profile=profile)
    check_size(codec, data, 6500)
    assert codec.open(data).icc_profile == profile
    with pytest.raises(TargetError) as caught:
        codec.encode(picture, target_size=5000, icc_profile=profile)
    assert "(50" in str(caught.value) and "leave out its metadata, or make" in str(caught.value)
    with pytest.raises(TargetError) as caught:
        codec.encode(picture, target_size=80, icc_profile=profile)
    assert "leave out" not in str(caught.value)


def test_the_original_of_a_turned_picture_is_the_upright_one(codec, sample):
    """The PSNR is that of the pixels as coded, whichever way they are stored."""
    picture = piece(sample, 128, 96)
    picture.info["exif"] = turned(6)
    for orient in (True, False):
        data = codec.encode(picture, target_psnr=30, orient=orient)
        coded = picture.transpose(Image.Transpose.ROTATE_270) if orient else picture
        assert psnr(coded, codec.decode(data, orient=False)) >= 30


# ---------------------------------------------------------------------- pictures of extremes

EXTREMES: dict[str, Callable[[], Image.Image]] = {
    "black": lambda: Image.new("RGB", (96, 64)),
    "noise": lambda: Image.fromarray(
        np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    ),
    "one pixel": lambda: Image.new("RGB", (1, 1), (200, 10, 30)),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_sizes_of_extremes(codec, encodings, name):
    picture = EXTREMES[name]()
    smallest, largest = (len(codec.encode(picture, quality)) for quality in (1, 8))
    for limit in (smallest, (smallest + largest) // 2, largest - 1, largest, 10**9):
        encodings.clear()
        check_size(codec, codec.encode(picture, target_size=limit), limit)
        assert len(encodings) <= 8
    with pytest.raises(TargetError) as caught:
        codec.encode(picture, target_size=smallest - 1)
    assert f" of quality 1, has {smallest} bytes, more than" in str(caught.value)
    assert len(codec.encode(picture, target_size=int(str(caught.value).split()[10]))) == smallest


@pytest.mark.parametrize("name", EXTREMES)
def test_fidelities_of_extremes(codec, encodings, name):
    """Their PSNR rises and falls with the quality, or hardly changes."""
    picture = EXTREMES[name]()
    worst, best = (psnr(picture, codec.decode(codec.encode(picture, q))) for q in (1, 8))
    for least in (min(worst, best) - 1, (worst + best) / 2, best):
        encodings.clear()
        assert psnr(picture, codec.decode(codec.encode(picture, target_psnr=least))) >= least
        assert len(encodings) <= 8
    with pytest.raises(TargetError) as caught:
        codec.encode(picture, target_psnr=90)
    said = float(str(caught.value).split(" dB, less than")[0].rpartition(" ")[2])
    assert psnr(picture, codec.decode(codec.encode(picture, target_psnr=said))) >= said


# ---------------------------------------------------------------------- with the other arguments


def test_many_pictures_have_the_target_each(codec, sample, encodings):
    pictures = [sample.crop((x, 0, x + 64, 64)) for x in (0, 64, 128)]
    files = codec.encode_many([pictures[0], 3, *pictures[1:], Image.new("1", (9, 9))], target_bpp=2)
    assert isinstance(files[1], ImageError)
    assert isinstance(files[4], TargetError)
    encodings.clear()
    assert [files[0], *files[2:4]] == [codec.encode(each, target_bpp=2) for each in pictures]


@pytest.mark.parametrize("more", [{"profile": "float"}, {"reproducible": True}], ids=str)
def test_other_ways_of_coding(codec, sample, more):
    picture = piece(sample, 64, 64)
    data = codec.encode(picture, target_size=500, **more)
    check_size(codec, data, 500)
    assert codec.encode(picture, codec.open(data).quality, **more) == data
    data = codec.encode(picture, target_psnr=28, **more)
    assert psnr(picture, codec.decode(data)) >= 28


def test_a_picture_of_numbers_is_measured_as_8_bits(codec, sample):
    x = torch.from_numpy(np.array(piece(sample, 64, 64))).permute(2, 0, 1) / 255 + 0.0019
    data = codec.encode(x.clamp(0, 1), target_psnr=28)
    assert psnr(piece(sample, 64, 64), codec.decode(data)) >= 28


def test_the_picture_is_prepared_once(codec, sample, monkeypatch, encodings):
    prepared: list[object] = []
    prepare = PictureEncoder.prepare
    monkeypatch.setattr(
        PictureEncoder, "prepare", lambda self, image: prepared.append(1) or prepare(self, image)
    )
    codec.encode(piece(sample, 64, 64), target_size=600)
    assert len(prepared) == 1 < len(encodings)


def test_a_picture_too_small_for_ms_ssim(codec, sample, encodings):
    with pytest.raises(ImageError, match="160x200, expected sides of at least 161 pixels"):
        codec.encode(sample.resize((160, 200)), target_ms_ssim=0.9)
    assert encodings == []


def test_ms_ssim_without_its_library(codec, sample, monkeypatch, encodings):
    monkeypatch.setitem(sys.modules, "pytorch_msssim", None)
    for encode in (codec.encode, codec.encode_many):
        with pytest.raises(MissingDependencyError, match="MS-SSIM needs pytorch-msssim"):
            encode([sample], target_ms_ssim=0.9)
    assert encodings == []
