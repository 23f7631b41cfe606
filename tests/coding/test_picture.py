"""A coded picture: parsed once, what its header says, rendered as often as wanted."""

from __future__ import annotations

import dataclasses
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import icc_profiles
import numpy as np
import pytest
import torch
from PIL import Image

from mpa_core import Mix, MPACodec
from mpa_core.bitstream.container import pack, unpack
from mpa_core.bitstream.parsed import parse_file
from mpa_core.coding import picture as picture_module
from mpa_core.errors import (
    BaseMismatchError,
    BitstreamError,
    ConfigError,
    DamageWarning,
    DesyncError,
    MixError,
    PathNotFoundError,
)


@pytest.fixture(scope="module")
def photo(sample) -> Image.Image:
    """Lies on its side, in another colour space."""
    picture = sample.crop((60, 40, 160, 110))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.info.update(icc_profile=icc_profiles.profile(icc_profiles.DISPLAY_P3))
    picture.info["exif"] = exif.tobytes()
    return picture


@pytest.fixture(scope="module")
def data(codec, photo) -> bytes:
    """A file with pixels that are stored as they lay."""
    return codec.encode(photo, 3.25, orient=False)


@pytest.fixture
def counted(monkeypatch) -> list[Any]:
    """Every decoding of latents."""
    calls: list[Any] = []
    real = picture_module.decode_latents

    def decode(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return real(*args, **kwargs)

    monkeypatch.setattr(picture_module, "decode_latents", decode)
    return calls


def test_what_the_header_says(codec, photo, data, counted):
    coded = codec.open(data)
    assert (coded.width, coded.height) == (70, 100)  # as it is seen
    assert (coded.quality, coded.profile, coded.orientation) == (3.25, "exact", 6)
    assert coded.icc_profile == photo.info["icc_profile"]
    assert photo.info["exif"].endswith(coded.exif)
    assert coded.file_size == len(data)
    assert coded.bpp == pytest.approx(8 * len(data) / 7000)
    assert coded.damage == () and counted == []
    assert repr(coded) == f"CodedPicture(70x100, quality=3.25, {len(data)} bytes)"
    upright = codec.open(codec.encode(photo))
    assert (upright.width, upright.height, upright.orientation) == (70, 100, 1)
    bare = codec.open(codec.encode(np.asarray(photo), profile="float"))
    assert (bare.profile, bare.exif, bare.icc_profile) == ("float", None, None)


@pytest.mark.parametrize("orient", [True, False])
@pytest.mark.parametrize("mix", [None, "cls", {"cls": 0.4}, Mix(cls=0.5)], ids=repr)
def test_rendering_is_decoding(codec, data, mix, orient, counted):
    coded = codec.open(data)
    for output in ("array", "tensor", "pil"):
        expected = codec.decode(data, mix, output=output, orient=orient)
        found = coded.render(mix, output=output, orient=orient)
        if output == "pil":
            assert found.info == expected.info and set(found.info) == {"icc_profile", "exif"}
        assert np.array_equal(np.asarray(found), np.asarray(expected))
    assert len(counted) == 3 + 1


def test_regions_are_drawn_on_the_view_that_is_rendered(codec, data):
    coded = codec.open(data)
    mask = np.zeros((100, 70), bool)
    mask[:30] = True
    local = Mix(regions={"cls": mask})
    assert np.array_equal(
        coded.render(local, output="array"), codec.decode(data, local, output="array")
    )
    with pytest.raises(MixError, match="70x100"):
        coded.render(local, orient=False)


def test_latents_are_decoded_once_by_all_threads(codec, data, counted):
    expected = codec.decode(data, "cls", output="array")
    counted.clear()
    coded = codec.open(data)
    together = threading.Barrier(6)

    def render(number: int) -> bool:
        together.wait(timeout=300)
        if number % 2:
            return np.array_equal(coded.render("cls", output="array"), expected)
        return coded.latents().shape[0] == 1

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(render, range(6)))
    assert len(counted) == 1


def test_paths_and_device_are_those_of_the_codec_now(tiny_base, tiny_cls_path, data):
    codec = MPACodec.from_pretrained(tiny_base)
    coded = codec.open(data)
    plain = coded.render(output="array")
    with pytest.raises(PathNotFoundError, match=r"load_path\('cls'\)"):
        coded.render("cls")
    codec.load_path(tiny_cls_path)
    assert not np.array_equal(coded.render("cls", output="array"), plain)
    assert np.array_equal(coded.render(output="array"), plain)
    codec.unload_path("cls")
    with pytest.raises(PathNotFoundError):
        coded.render("cls")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_codec_that_moves_takes_its_pictures_along(tiny_base, data):
    codec = MPACodec.from_pretrained(tiny_base)
    coded = codec.open(data)
    here = coded.render(output="tensor")
    codec.to("cuda")
    there = coded.render(output="tensor")
    assert there.device.type == coded.latents().device.type == "cuda"
    assert torch.allclose(there.cpu(), here, atol=1e-3)


def test_a_parsed_file_is_opened_as_it_is(codec, data):
    file = parse_file(data)
    assert codec.open(file).file is file
    damaged = parse_file(data[:-9], errors="conceal")
    with pytest.warns(DamageWarning, match="bytes are missing"):
        codec.open(damaged).render()


def test_what_does_not_open(codec, data):
    other = MPACodec.from_preset("mpa-tiny", seed=7)
    with pytest.raises(BaseMismatchError, match="mpa-tiny-random-7"):
        other.open(data)
    for wrong in (data[:-1], data + b"x", b"", b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(BitstreamError):
            codec.open(wrong)
    with pytest.raises(BitstreamError, match="max_pixels="):
        codec.open(data, max_pixels=6999)
    with pytest.raises(ConfigError, match="'strict' or 'conceal'"):
        codec.open(data, errors="ignore")


def test_wrong_symbols_are_seen_each_time(codec, data, counted):
    container = unpack(data)
    forged = pack(dataclasses.replace(container, symbols_crc=container.symbols_crc ^ 1))
    coded = codec.open(forged)
    for use in (coded.render, coded.latents, coded.render):
        with pytest.raises(DesyncError, match="the decoded symbols have CRC"):
            use()
    assert coded.damage == () and len(counted) == 3


def test_damage_is_reported_as_far_as_it_is_known(codec, data):
    coded = codec.open(data[:-60], errors="conceal")
    (missing,) = coded.damage
    assert missing == f"the last 60 of {len(data)} bytes are missing"
    with pytest.warns(DamageWarning) as caught:
        first = coded.render(output="array")
    assert [str(warning.message) for warning in caught] == ["; ".join(coded.damage)]
    assert caught[0].filename == __file__
    assert len(coded.damage) > 1 and "symbols concealed" in coded.damage[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it has been said
        assert np.array_equal(coded.render(output="array"), first)
    with pytest.warns(DamageWarning):
        assert np.array_equal(codec.decode(data[:-60], output="array", errors="conceal"), first)


def test_each_warning_of_damage_is_at_its_own_caller(codec, data):
    """Python shows a warning once per line: callers on two lines see one each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        codec.decode(data[:-60], errors="conceal")
        codec.open(data[:-60], errors="conceal").render()
    assert len({warning.lineno for warning in caught}) == len(caught) == 2
