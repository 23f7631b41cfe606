"""Metadata that a format cannot hold cost no picture."""

from __future__ import annotations

import io

import exif_blocks
import icc_profiles as icc
import numpy as np
import pytest
from PIL import Image

from mpa_core.errors import MetadataWarning
from mpa_core.io.icc import to_srgb
from mpa_core.io.images import OUTPUT_FORMATS, encode_image, load_image, save_image
from mpa_core.io.metadata import read_exif

PICTURE = Image.fromarray(np.arange(8 * 6 * 3, dtype=np.uint8).reshape(6, 8, 3))
LARGE = b"\xff\xd8\xff\xdb" + bytes(70_000) + b"\xff\xd9"


def written(suffix: str, **metadata: bytes) -> Image.Image:
    return load_image(io.BytesIO(encode_image(PICTURE, suffix, **metadata)))


def large_profile(size: int) -> bytes:
    """Display P3 with a private tag that no reader needs."""
    more = {b"xxxx": b"data\0\0\0\0" + bytes(size)}
    return icc.profile(icc.DISPLAY_P3, icc.gamma_curve(2.2), more=more)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"preview": LARGE}, "its preview and unusual tags were left out"),
        ({"more": [(0x02BC, 7, LARGE)]}, "its preview and unusual tags were left out"),
        ({"maker_note": LARGE}, "its preview, unusual tags and maker's notes were left out"),
        ({"more": [(0x010E, 2, LARGE)]}, "all but the orientation was left out"),
    ],
)
def test_of_a_large_exif_what_fits_is_written(parts, said: str):
    block = exif_blocks.photo(**parts)
    with pytest.warns(MetadataWarning) as caught:
        image = written(".jpg", exif=block)
    text = str(caught[0].message)
    assert len(caught) == 1
    assert said in text
    assert f"the EXIF of {len(block)} bytes cannot go into JPEG" in text
    assert image.size == PICTURE.size
    exif = image.getexif()
    assert exif[0x0112] == 6
    if "orientation" in said:
        assert dict(exif) == {0x0112: 6}
        return
    assert exif[0x010F] == "Maker of cameras"
    assert exif.get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"
    assert exif.get_ifd(0x8825)[2] == pytest.approx((48, 12, 34.56))
    assert (0x927C in exif.get_ifd(0x8769)) == ("maker" not in said)


@pytest.mark.parametrize(
    "block",
    [
        b"II*\0" + bytes(70_000),
        b"rubbish" * 10_000,
        exif_blocks.photo(orientation=1, more=[(0x010E, 2, LARGE)]),
    ],
)
def test_a_large_exif_of_which_nothing_fits(block: bytes):
    with pytest.warns(MetadataWarning, match="cannot go into JPEG as it is; it was left out"):
        image = written(".jpg", exif=block)
    assert image.size == PICTURE.size
    assert not image.getexif()


def test_the_longest_exif_of_jpeg_goes_whole():
    block = exif_blocks.photo(preview=bytes(60_000))
    block += bytes(65_533 - 6 - len(block))
    assert read_exif(written(".jpg", exif=block)) == block
    with pytest.warns(MetadataWarning, match="65528 bytes cannot go"):
        written(".jpg", exif=block + b"\0")


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_other_formats_have_room(suffix: str):
    block = exif_blocks.photo(preview=LARGE)
    assert read_exif(written(suffix, exif=block)) == block


def test_exif_that_is_none_costs_no_tiff():
    with pytest.warns(MetadataWarning, match="cannot go into TIFF as it is; it was left out"):
        image = written(".tif", exif=b"rubbish" * 9)
    assert np.array_equal(image, PICTURE)


@pytest.mark.parametrize(
    ("suffix", "size"), [(".jpg", 255 * 65_519), (".png", 2**20), (".jpeg", 2**25)]
)
def test_a_profile_that_does_not_fit_is_converted_from(suffix: str, size: int):
    profile = large_profile(size)
    with pytest.warns(MetadataWarning, match="cannot go into .* colours converted to sRGB"):
        image = written(suffix, icc_profile=profile)
    assert "icc_profile" not in image.info
    wanted = np.asarray(to_srgb(PICTURE, profile), int)
    tolerance = 0 if suffix == ".png" else 12
    assert np.abs(np.asarray(image) - wanted).max() <= tolerance
    assert np.abs(np.asarray(PICTURE, int) - wanted).max() > 0


def test_a_large_profile_that_cannot_be_read_is_left_out():
    with pytest.warns(MetadataWarning, match="cannot go into PNG; it was left out; write"):
        image = written(".png", icc_profile=bytes(2**20 + 1))
    assert np.array_equal(image, PICTURE)


@pytest.mark.parametrize("suffix", OUTPUT_FORMATS)
def test_profiles_just_small_enough_go_whole(suffix: str):
    profile = large_profile(2**20 - 2000)
    assert written(suffix, icc_profile=profile).info["icc_profile"] == profile


def test_a_file_is_written_all_the_same(tmp_path):
    with pytest.warns(MetadataWarning):
        save_image(tmp_path / "a.jpg", PICTURE, exif=exif_blocks.photo(preview=LARGE))
    assert load_image(tmp_path / "a.jpg").size == PICTURE.size
