"""Saving pictures as .mpa files with Pillow: the options, modes and metadata of the codec."""

from __future__ import annotations

import io
import warnings

import exif_blocks
import icc_profiles as icc
import numpy as np
import pytest
from PIL import Image

from mpa_core.bitstream.metadata import from_chunks
from mpa_core.bitstream.parsed import parse_file
from mpa_core.errors import MetadataWarning, QualityError, TargetError
from mpa_core.io.orientation import orientation_of, upright_exif

P3 = icc.profile(icc.DISPLAY_P3, icc.gamma_curve(2.2))
TURNED = exif_blocks.photo(orientation=6)


def saved(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "MPA", **options)
    return file.getvalue()


def test_a_file_is_the_codecs(plugin, codec, photo, tmp_path):
    photo.save(tmp_path / "photo.mpa", quality=3.5, optimize=True)
    assert (tmp_path / "photo.mpa").read_bytes() == codec.encode(photo, 3.5)
    assert saved(photo) == codec.encode(photo)


def test_the_options_are_the_codecs(plugin, codec, photo):
    small = photo.crop((0, 0, 16, 16))
    assert saved(small, profile="float") == codec.encode(small, profile="float")
    assert saved(small, quality=2, reproducible=True) == codec.encode(small, 2, reproducible=True)
    assert len(saved(small, target_size=300)) <= 300
    steps = []
    found = saved(small, effort=1, progress=lambda *step: steps.append(step))
    assert steps
    assert found == codec.encode(small, effort=1)
    with pytest.raises(QualityError, match="quality"):  # JPEG's scale
        saved(small, quality=95)
    with pytest.raises(TargetError):
        saved(small, target_size=10)


def test_the_base_is_the_one_named(plugin, codec, photo, tiny_base, monkeypatch):
    monkeypatch.delenv("MPA_BASE")
    small = photo.crop((0, 0, 16, 16))
    assert saved(small, base=tiny_base) == codec.encode(small)
    bundled = parse_file(saved(small)).container.fingerprint
    assert bundled != codec.profiles.prefix("exact")
    assert bundled == parse_file(saved(small, base="mpa-small")).container.fingerprint


def test_readers_are_loaded(plugin, photo, monkeypatch):
    """The bundled path's own weights, on the bundled base."""
    monkeypatch.delenv("MPA_BASE")
    saved(photo.crop((0, 0, 8, 8)), effort=1, reader={"main": 1, "mse": 0.5})


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "YCbCr", "HSV"])
def test_modes_are_converted_as_the_codec_does(plugin, codec, photo, mode):
    image = photo.convert("L").convert("I;16") if mode == "I;16" else photo.convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    data = saved(image)
    assert data == codec.encode(image)
    with Image.open(io.BytesIO(data)) as back:
        assert (back.mode, back.size) == ("RGB", image.size)


@pytest.mark.parametrize("mode", ["CMYK", "F", "I", "LAB"])
def test_a_mode_without_a_meaning_cannot_be_written(plugin, mode, tmp_path):
    with pytest.raises(OSError, match=f"cannot write the picture as MPA.*{mode}"):
        Image.new(mode, (4, 4)).save(tmp_path / "no.mpa")
    assert not (tmp_path / "no.mpa").exists()


def test_the_smallest_picture(plugin):
    with Image.open(io.BytesIO(saved(Image.new("L", (1, 1), 77)))) as back:
        assert back.size == (1, 1)
        assert len(set(np.asarray(back).ravel())) <= 3


# ---------------------------------------------------------------------- metadata


def test_a_pictures_own_metadata_are_kept_and_it_is_turned(plugin, photo, tmp_path):
    photo.save(tmp_path / "photo.jpg", exif=b"Exif\0\0" + TURNED, icc_profile=P3)
    with Image.open(tmp_path / "photo.jpg") as image:
        data = saved(image)
    assert from_chunks(parse_file(data).container.chunks) == (P3, upright_exif(TURNED))
    with Image.open(io.BytesIO(data)) as back:
        assert back.size == (40, 72)
        assert (back.info["icc_profile"], back.getexif()[0x0112]) == (P3, 1)
        # And on into another format, and back.
        back.save(tmp_path / "again.png", exif=back.info["exif"])
        back.save(tmp_path / "again.mpa", quality=8)
    for name in ("again.png", "again.mpa"):
        with Image.open(tmp_path / name) as again:
            assert (again.size, again.info["icc_profile"]) == ((40, 72), P3)
            assert again.getexif()[0x010F] == "Maker of cameras"


def test_metadata_can_be_given_and_left_out(plugin, photo):
    tagged = photo.copy()
    tagged.info |= {"icc_profile": P3, "exif": TURNED}
    for nothing in (None, b""):
        bare = parse_file(saved(tagged, icc_profile=nothing, exif=nothing))
        assert not any(bare.metadata)
        assert bare.upright_size == (72, 40)  # turned all the same
    exif = Image.Exif()
    exif[0x010F] = "Another maker"
    with Image.open(io.BytesIO(saved(photo, exif=exif, icc_profile=P3))) as back:
        assert back.getexif()[0x010F] == "Another maker"
        assert back.info["icc_profile"] == P3
    assert parse_file(saved(photo, exif=Image.Exif())).metadata.exif is None
    kept = parse_file(saved(photo, exif=TURNED, orient=False))
    assert (orientation_of(kept.metadata.exif), kept.upright_size) == (6, (72, 40))


def test_xmp_has_no_place(plugin, photo):
    with pytest.warns(MetadataWarning, match="XMP"):
        data = saved(photo, xmp=b"<x:xmpmeta/>")
    tagged = photo.copy()
    tagged.info["xmp"] = b"<x:xmpmeta/>"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert saved(tagged) == data  # as `mpa encode` takes it


def test_exif_in_a_png_is_found(plugin, photo, tmp_path):
    block = exif_blocks.photo(orientation=1)
    photo.save(tmp_path / "photo.png", exif=b"Exif\0\0" + block)
    with Image.open(tmp_path / "photo.png") as image:
        assert parse_file(saved(image)).metadata.exif == block
