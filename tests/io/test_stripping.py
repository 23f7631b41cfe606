"""Pictures without metadata look as they did with them."""

from __future__ import annotations

import io

import exif_blocks
import icc_profiles as icc
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from mpa_core import MPACodec
from mpa_core.bitstream.container import unpack
from mpa_core.errors import MetadataWarning, PictureWarning
from mpa_core.io.images import to_rgb_tensor
from mpa_core.io.orientation import orientation_of
from mpa_core.io.stripping import strip, strip_location

P3 = icc.profile(icc.DISPLAY_P3, icc.srgb_formula(), version=4)


@pytest.fixture(scope="module")
def picture(sample: Image.Image) -> Image.Image:
    return sample.crop((100, 100, 140, 124))


def tagged(picture: Image.Image, **info: bytes) -> Image.Image:
    copy = picture.copy()
    copy.info = dict(info)
    return copy


@pytest.mark.parametrize("orientation", range(1, 9))
def test_stripped_pictures_are_upright(picture, orientation: int):
    exif = exif_blocks.photo(orientation=orientation)
    assert orientation_of(exif) == orientation
    image = tagged(picture, exif=exif)
    stripped = strip(image)
    assert stripped.info == {}
    assert not stripped.getexif()
    assert np.array_equal(stripped, ImageOps.exif_transpose(image))
    assert image.info == {"exif": exif}


@pytest.mark.parametrize("block", [b"", b"II*\0", b"rubbish" * 9, exif_blocks.photo(orientation=9)])
def test_what_says_no_orientation_turns_nothing(block: bytes):
    assert orientation_of(block) == 1


def test_stripped_pictures_are_srgb(picture):
    image = tagged(picture, icc_profile=P3)
    stripped = strip(image)
    assert stripped.info == {}
    profile, srgb = ImageCms.ImageCmsProfile(io.BytesIO(P3)), ImageCms.createProfile("sRGB")
    wanted = ImageCms.profileToProfile(picture, profile, srgb)
    assert np.array_equal(stripped, wanted)
    assert not np.array_equal(stripped, picture)


@pytest.mark.parametrize("info", [{}, {"icc_profile": icc.profile(name="sRGB")}])
def test_srgb_stays_as_it_is(picture, info):
    assert np.array_equal(strip(tagged(picture, **info)), picture)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16"])
def test_other_modes_become_what_the_codec_sees(picture, mode: str):
    image = picture.convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    stripped = strip(image)
    assert stripped.mode == "RGB"
    seen = to_rgb_tensor(image).tensor[0].permute(1, 2, 0).numpy() * 255
    assert np.array_equal(stripped, seen.round().astype(np.uint8))


def test_a_broken_profile_is_left_out_with_a_word(picture):
    image = tagged(picture, icc_profile=bytes(16) + b"RGB " + bytes(500))
    with pytest.warns(PictureWarning, match="a damaged ICC profile: not followed"):
        stripped = strip(image)
    assert np.array_equal(stripped, picture)
    assert stripped.info == {}


def test_the_place_alone(picture):
    exif = exif_blocks.photo()
    image = tagged(picture, exif=exif, icc_profile=P3)
    left = strip_location(image)
    assert np.array_equal(left, picture)
    assert left.info["icc_profile"] == P3
    assert dict(left.getexif().get_ifd(0x8825)) == {}
    assert left.getexif()[0x0112] == 6
    assert exif_blocks.MAKER_NOTE in left.info["exif"]
    assert image.info["exif"] == exif


def test_exif_that_cannot_be_taken_apart_goes_as_a_whole(picture):
    with pytest.warns(MetadataWarning, match="cannot be taken apart, and was left out as a whole"):
        left = strip_location(tagged(picture, exif=b"rubbish" * 9))
    assert left.info == {}


def test_the_format_is_kept(tmp_path):
    wide = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000)
    wide.save(tmp_path / "a.png", exif=b"Exif\0\0" + exif_blocks.photo())
    with Image.open(tmp_path / "a.png") as image:
        left = strip_location(image)
    assert left.format == "PNG"
    assert to_rgb_tensor(left).tensor.shape == (1, 3, 8, 8)


def test_files_of_stripped_pictures(picture):
    codec = MPACodec.from_preset("mpa-tiny")
    image = tagged(picture, exif=exif_blocks.photo(), icc_profile=P3)
    whole, without, bare = (
        unpack(codec.encode(x)) for x in (image, strip_location(image), strip(image))
    )
    assert set(whole.chunks) == {b"ICCZ", b"EXIZ"} == set(without.chunks)
    assert len(without.chunks[b"EXIZ"]) < len(whole.chunks[b"EXIZ"])
    assert bare.chunks == {}
    assert (bare.width, bare.height) == (24, 40)  # upright
