"""MPACodec with a small random base: every size, every kind of picture, every way to go wrong."""

from __future__ import annotations

import icc_profiles
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mpa_core import Mix, MPACodec
from mpa_core.bitstream.container import PROFILES, unpack
from mpa_core.errors import (
    BaseMismatchError,
    BitstreamError,
    ConfigError,
    DesyncError,
    ImageError,
    MixError,
    PathNotFoundError,
    QualityError,
)
from mpa_core.paths.path import TaskPath


@pytest.fixture(scope="module")
def codec() -> MPACodec:
    codec = MPACodec.from_preset("mpa-tiny")
    torch.manual_seed(1)
    for name in ("cls", "seg"):
        path = TaskPath(codec.model.config.decoder_path_stages)
        for parameter in path.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        codec.attach_path(path, name)
    return codec


@pytest.fixture(scope="module")
def data(codec, sample) -> bytes:
    return codec.encode(sample, 4.5)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 150), st.integers(1, 150), st.sampled_from([1, 2.25, 8]))
def test_any_size(codec, width, height, quality):
    image = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3))
    decoded = codec.decode(codec.encode(image.astype(np.uint8), quality), output="array")
    assert decoded.shape == (height, width, 3) and decoded.dtype == np.uint8


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "RGB", "I;16", "YCbCr"])
def test_modes(codec, sample, mode):
    picture = sample.resize((70, 50)).convert("RGB")
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    else:
        picture = picture.convert(mode)
    decoded = codec.decode(codec.encode(picture))
    assert decoded.mode == "RGB" and decoded.size == (70, 50)


def test_the_same_picture_in_three_forms_is_the_same_file(codec, sample):
    array = np.asarray(sample)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255
    bare = Image.fromarray(array)  # the sample itself brings an ICC profile along
    files = {codec.encode(form, 3) for form in (bare, array, tensor, tensor[None])}
    assert len(files) == 1


def test_outputs_agree(codec, data, sample):
    picture = codec.decode(data)
    array = codec.decode(data, output="array")
    tensor = codec.decode(data, output="tensor")
    assert picture.size == sample.size
    assert np.array_equal(np.asarray(picture), array)
    assert tensor.shape == (3, sample.height, sample.width)
    assert tensor.min() >= 0 and tensor.max() <= 1
    assert np.abs(tensor.permute(1, 2, 0).numpy() * 255 - array).max() <= 0.5 + 1e-4


def test_file_is_a_function_of_picture_and_quality(codec, sample, data):
    assert codec.encode(sample, 4.5) == data
    assert codec.encode(sample, 4.75) != data
    again = MPACodec.from_preset("mpa-tiny")
    assert again.encode(sample, 4.5) == data


def test_profile_and_exif_travel(codec, sample):
    profile = icc_profiles.profile(icc_profiles.DISPLAY_P3)
    exif = Image.Exif()
    exif[0x010E] = "a cat"
    exif[0x0112] = 6
    picture = sample.resize((64, 48))
    picture.info["icc_profile"] = profile
    picture.info["exif"] = exif.tobytes()
    decoded = codec.decode(codec.encode(picture))
    assert decoded.info["icc_profile"] == profile
    assert decoded.getexif()[0x010E] == "a cat" and decoded.getexif()[0x0112] == 1  # it was turned
    assert decoded.size == picture.size[::-1]


def test_header_says_what_was_asked(codec, data, sample):
    container = unpack(data)
    assert (container.width, container.height) == sample.size
    assert container.quality == 4.5
    assert PROFILES[container.profile] == "exact"
    assert codec.profiles.exact_fingerprint.startswith(container.fingerprint.hex())


def test_float_profile_on_request(codec, sample):
    data = codec.encode(sample, 3, profile="float")
    container = unpack(data)
    assert PROFILES[container.profile] == "float"
    assert codec.fingerprint.startswith(container.fingerprint.hex())
    assert codec.decode(data).size == sample.size
    with pytest.raises(ConfigError, match="'exact' or 'float'"):
        codec.encode(sample, 3, profile="double")


@pytest.mark.parametrize(
    "mix", [Mix(cls=1.0), Mix(cls=0.4, seg=0.2), Mix.parse("seg=0.5")], ids=repr
)
def test_mixes_decode(codec, data, mix):
    plain = codec.decode(data, output="tensor")
    mixed = codec.decode(data, mix, output="tensor")
    assert mixed.shape == plain.shape and not torch.equal(mixed, plain)


def test_region_changes_the_region_only_nearby(codec, sample):
    data = codec.encode(sample, 4)
    mask = np.zeros((sample.height, sample.width), bool)
    mask[:40, :40] = True
    plain = codec.decode(data, output="tensor")
    local = codec.decode(data, Mix(regions={"cls": mask}), output="tensor")
    changed = ((plain - local).abs() > 1e-3).any(0)
    assert changed[:40, :40].any()
    # Features spread by the receptive field of the decoder's last three stages, no further.
    assert not changed[-64:, -64:].any()


def test_whole_region_is_the_whole_share(codec, data, sample):
    everywhere = np.ones((sample.height, sample.width), bool)
    by_region = codec.decode(data, Mix(regions={"cls": everywhere}), output="tensor")
    by_share = codec.decode(data, Mix(cls=1.0), output="tensor")
    # The padding at the bottom and the right belongs to no region: look well away from it.
    assert torch.allclose(by_region[:, :128, :128], by_share[:, :128, :128], atol=1e-3)


@pytest.mark.parametrize("quality", [0, 0.99, 8.5, 9, float("nan")])
def test_quality_outside(codec, sample, quality):
    with pytest.raises(QualityError, match="expected 1"):
        codec.encode(sample, quality)


def test_wrong_mask_size(codec, data):
    with pytest.raises(MixError, match="451"):
        codec.decode(data, Mix(regions={"cls": np.ones((5, 5), bool)}))


def test_unknown_path(codec, data):
    with pytest.raises(PathNotFoundError, match="det"):
        codec.decode(data, Mix(det=1.0))
    with pytest.raises(PathNotFoundError, match="det"):
        codec.load_path("det")
    with pytest.raises(PathNotFoundError, match="is loaded"):
        codec.unload_path("det")


def test_registered_path_without_weights_for_this_base(codec):
    with pytest.raises(PathNotFoundError, match="no weights for base"):
        codec.load_path("mse")


@pytest.mark.parametrize("junk", [b"", b"hello", bytes(100), b"\x89PNG\r\n\x1a\n" + bytes(60)])
def test_not_an_mpa_file(codec, junk):
    with pytest.raises(BitstreamError):
        codec.decode(junk)


def test_truncated(codec, data):
    for length in (3, 20, 50, len(data) // 2, len(data) - 1):
        with pytest.raises(BitstreamError):
            codec.decode(data[:length])


def test_file_of_another_base(data):
    other = MPACodec.from_preset("mpa-tiny", seed=7)
    with pytest.raises(BaseMismatchError, match="mpa-tiny-random-7"):
        other.decode(data)


@pytest.mark.parametrize("errors", ["strict", "conceal"])
def test_limit_of_pixels(codec, data, sample, errors):
    pixels = sample.width * sample.height
    with pytest.raises(BitstreamError, match="max_pixels="):
        codec.decode(data, errors=errors, max_pixels=pixels - 1)
    assert codec.decode(data, errors=errors, max_pixels=pixels).size == sample.size


def test_wrong_symbols_are_seen(codec, sample):
    from dataclasses import replace

    from mpa_core.bitstream.container import pack

    container = unpack(codec.encode(sample, 4))
    forged = pack(replace(container, symbols_crc=container.symbols_crc ^ 1))
    with pytest.raises(DesyncError):
        codec.decode(forged)


def test_not_a_picture(codec):
    for thing in ("photo.png", None, np.zeros((4, 4, 7), np.uint8), torch.zeros(2, 3, 8, 8)):
        with pytest.raises(ImageError):
            codec.encode(thing)


@pytest.mark.parametrize("name", ["main", "regions", "a b", "keys", "1st", ""])
def test_names_that_cannot_name_a_path(codec, name):
    path = TaskPath(codec.model.config.decoder_path_stages)
    if name == "":
        path.name = "not an identifier"
    with pytest.raises(ConfigError, match="identifier"):
        codec.attach_path(path, name)


def test_path_of_another_layout(codec):
    other = MPACodec.from_preset("mpa-small")
    with pytest.raises(ConfigError, match="stages"):
        codec.attach_path(TaskPath(other.model.config.decoder_path_stages), "wide")


def test_name_taken(codec):
    with pytest.raises(ConfigError, match="unload_path"):
        codec.attach_path(TaskPath(codec.model.config.decoder_path_stages), "cls")


def test_save_and_load(tmp_path, codec, data):
    codec.save_pretrained(tmp_path / "base")
    again = MPACodec.from_pretrained(tmp_path / "base")
    assert again.fingerprint == codec.fingerprint and again.paths == ()
    assert torch.equal(again.decode(data, output="tensor"), codec.decode(data, output="tensor"))


def test_status_is_plain_data(codec):
    import json

    status = json.loads(json.dumps(codec.status()))
    assert status["fingerprint"] == codec.fingerprint
    assert set(status["paths"]) == {"cls", "seg"}
    assert status["parameters"] == sum(
        p.numel() for n, p in codec.model.named_parameters() if not n.startswith("paths.")
    )
