"""Profiles are judged by what they do to colours."""

from __future__ import annotations

import io
import struct

import icc_profiles as icc
import numpy as np
import pytest
from PIL import Image, ImageCms

from mpa_core import MPACodec
from mpa_core.bitstream.container import unpack
from mpa_core.bitstream.metadata import from_chunks
from mpa_core.io.icc import means_srgb, to_srgb

BUILT_IN = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def cicp(primaries: int, transfer: int) -> dict[bytes, bytes]:
    return {b"cicp": struct.pack(">4sI4B", b"cicp", 0, primaries, transfer, 0, 1)}


SAME = {
    "Pillow's own": BUILT_IN,
    "a table of 1024, as version 2 has it": icc.profile(name="sRGB IEC61966-2.1"),
    "a table of 4096": icc.profile(curve=icc.srgb_table(4096)),
    "a formula, as version 4 has it": icc.profile(curve=icc.srgb_formula(), version=4),
    "a small table": icc.profile(curve=icc.srgb_table(64)),
    "under another name": icc.profile(name="Adobe RGB (1998)"),
    "with code points of sRGB": icc.profile(version=4, curve=icc.srgb_formula(), more=cicp(1, 13)),
    "primaries rounded": icc.profile(tuple(tuple(round(n, 4) for n in xyz) for xyz in icc.SRGB)),
}
ANOTHER = {
    "Display P3": icc.profile(icc.DISPLAY_P3, icc.srgb_formula(), version=4),
    "Adobe RGB": icc.profile(icc.ADOBE_RGB, icc.gamma_curve(563 / 256)),
    "ProPhoto": icc.profile(icc.PROPHOTO, icc.gamma_curve(1.8)),
    "named sRGB and not it": icc.profile(icc.ADOBE_RGB, name="sRGB IEC61966-2.1"),
    "sRGB with a plain gamma": icc.profile(curve=icc.gamma_curve(2.2)),
    "linear": icc.profile(curve=icc.gamma_curve(1)),
    "red and green swapped": icc.profile((icc.SRGB[1], icc.SRGB[0], icc.SRGB[2])),
    "gray": icc.profile(space=b"GRAY", curve=icc.gamma_curve(2.2)),
    "gray with the curve of sRGB": icc.profile(space=b"GRAY"),
    "code points of HDR": icc.profile(version=4, curve=icc.srgb_formula(), more=cicp(9, 16)),
}


@pytest.mark.parametrize("name", SAME)
def test_srgb_by_any_name(name: str):
    assert means_srgb(SAME[name])


@pytest.mark.parametrize("name", ANOTHER)
def test_what_is_not_srgb(name: str):
    assert not means_srgb(ANOTHER[name])


@pytest.mark.parametrize("name", ANOTHER)
def test_the_others_are_good_profiles(name: str):
    """What is told apart above is the meaning: none of these fails to be read."""
    space = ANOTHER[name][16:20]
    image = Image.new("L" if space == b"GRAY" else "RGB", (1, 1))
    opened = ImageCms.getOpenProfile(io.BytesIO(ANOTHER[name]))
    srgb = ImageCms.createProfile("sRGB")
    assert ImageCms.profileToProfile(image, opened, srgb, outputMode="RGB") is not None


@pytest.mark.parametrize(
    "broken",
    [b"", b"profile", bytes(128), bytes(16) + b"RGB " + bytes(108), BUILT_IN[:-60], BUILT_IN[:131]],
)
def test_what_cannot_be_read_means_nothing_known(broken: bytes):
    assert not means_srgb(broken)
    assert to_srgb(Image.new("RGB", (1, 1)), broken) is None


def by_formula(primaries, gamma: float, colour: tuple[int, int, int]) -> np.ndarray:
    """``colour`` in sRGB, from primaries and exponent; what sRGB does not have is cut off."""
    linear = np.linalg.inv(np.transpose(icc.SRGB)) @ np.transpose(primaries)
    linear = (linear @ (np.array(colour) / 255) ** gamma).clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("colour", [(128, 128, 128), (200, 100, 90), (40, 60, 30), (100, 200, 100)])
@pytest.mark.parametrize(
    ("primaries", "gamma"),
    [
        (icc.SRGB, 1.0),
        (icc.DISPLAY_P3, 2.2),
        (icc.ADOBE_RGB, 563 / 256),
        (icc.PROPHOTO, 1.80078125),
        ((icc.SRGB[1], icc.SRGB[0], icc.SRGB[2]), 2.2),
    ],
)
def test_colours_in_srgb(primaries, gamma: float, colour):
    image = Image.new("RGB", (2, 3), colour)
    converted = to_srgb(image, icc.profile(primaries, icc.gamma_curve(gamma)))
    assert (converted.mode, converted.size) == ("RGB", (2, 3))
    assert "icc_profile" not in converted.info
    wanted = by_formula(primaries, round(gamma * 256) / 256, colour)
    assert np.abs(converted.getpixel((0, 0)) - wanted).max() <= 2
    assert image.getpixel((0, 0)) == colour


@pytest.fixture(scope="module")
def codec() -> MPACodec:
    return MPACodec.from_preset("mpa-tiny")


@pytest.mark.parametrize("as_argument", [False, True])
@pytest.mark.parametrize("name", SAME)
def test_srgb_takes_no_byte_of_a_file(codec, name: str, as_argument: bool):
    picture = Image.new("RGB", (8, 8), (200, 100, 50))
    bare = codec.encode(picture)
    if not as_argument:
        picture.info["icc_profile"] = SAME[name]
    file = codec.encode(picture, icc_profile=SAME[name] if as_argument else None)
    assert file == bare
    assert "icc_profile" not in codec.decode(file).info


@pytest.mark.parametrize("reproducible", [False, True])
@pytest.mark.parametrize("name", [n for n, p in ANOTHER.items() if p[16:20] == b"RGB "])
def test_any_other_comes_back_byte_for_byte(codec, name: str, reproducible: bool):
    picture = Image.new("RGB", (8, 8), (200, 100, 50))
    picture.info["icc_profile"] = ANOTHER[name]
    file = codec.encode(picture, reproducible=reproducible)
    chunks = unpack(file).chunks
    assert set(chunks) == {b"ICCP" if reproducible else b"ICCZ"}
    assert from_chunks(chunks).icc_profile == ANOTHER[name]
    assert codec.decode(file).info["icc_profile"] == ANOTHER[name]


def test_a_profile_that_is_given_is_kept_though_it_cannot_be_read(codec):
    broken = bytes(16) + b"RGB " + bytes(1000)
    picture = Image.new("RGB", (8, 8))
    file = codec.encode(picture, icc_profile=broken)
    assert codec.decode(file).info["icc_profile"] == broken
    assert len(file) < len(codec.encode(picture, icc_profile=b"")) + 50
