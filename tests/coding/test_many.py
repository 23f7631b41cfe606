"""Many pictures in one call: in order, as one by one, and an error in its place."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mpa_core import Mix, MPACodec
from mpa_core.bitstream.container import pack, unpack
from mpa_core.coding import many
from mpa_core.errors import (
    BitstreamError,
    ConfigError,
    DamageWarning,
    DesyncError,
    ImageError,
    MixError,
    MPAError,
    PathNotFoundError,
    QualityError,
)

SIZES = [(64, 64), (100, 70), (60, 40), (120, 65), (64, 1), (128, 128), (1, 64), (33, 65)]
"""Three padded sizes, most of them twice or more."""


@pytest.fixture(scope="module")
def pictures(sample) -> list[Image.Image]:
    return [
        sample.crop((20 * i, 10 * i, 20 * i + width, 10 * i + height))
        for i, (width, height) in enumerate(SIZES)
    ]


@pytest.fixture(scope="module")
def files(codec, pictures) -> list[bytes]:
    """Of any quality."""
    return [codec.encode(each, 1 + 0.75 * i) for i, each in enumerate(pictures)]


@pytest.fixture
def seen(monkeypatch) -> list[int]:
    """Numbers of pictures in the batches that were coded or decoded."""
    counts: list[int] = []
    encode, decode = many.PictureEncoder.encode, many.decode_latents

    def encoded(self: Any, batch: Any) -> Any:
        counts.append(len(batch))
        return encode(self, batch)

    def decoded(base: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        counts.append(len(batch))
        return decode(base, batch, *args, **kwargs)

    monkeypatch.setattr(many.PictureEncoder, "encode", encoded)
    monkeypatch.setattr(many, "decode_latents", decoded)
    return counts


# ---------------------------------------------------------------------- as one by one


@pytest.mark.parametrize("profile", ["exact", "float"])
@pytest.mark.parametrize("reproducible", [False, True])
def test_files_of_a_batch_decode_as_those_of_one_by_one(
    codec, pictures, seen, profile, reproducible
):
    options = {"profile": profile, "reproducible": reproducible}
    together = codec.encode_many(pictures, 3.5, **options)
    assert sorted(seen) == [1, 3, 4]
    alone = [codec.encode(each, 3.5, **options) for each in pictures]
    if reproducible and profile == "exact":
        assert together == alone
    for one, other in zip(alone, together, strict=True):
        assert unpack(one).named_streams["z"] == unpack(other).named_streams["z"]
        latents = [codec.open(data).latents() for data in (one, other)]
        # A few symbols in a million may be rounded to the next integer.
        assert (latents[0] - latents[1]).abs().max() <= 1 + 1e-4
        assert ((latents[0] - latents[1]).abs() > 1e-3).float().mean() < 1e-3
        if profile == "exact" and unpack(one).symbols_crc == unpack(other).symbols_crc:
            assert one == other


@pytest.mark.parametrize("mix", [None, "cls", {"cls": 0.3}], ids=repr)
@pytest.mark.parametrize("profile", ["exact", "float"])
def test_pictures_of_a_batch_are_those_of_one_by_one(codec, pictures, seen, mix, profile):
    data = [codec.encode(each, 1 + 0.75 * i, profile=profile) for i, each in enumerate(pictures)]
    seen.clear()
    together = codec.decode_many(data, mix, output="tensor")
    assert sorted(seen) == [1, 3, 4]
    assert isinstance(together, list)
    for one, found in zip(data, together, strict=True):
        assert torch.allclose(found, codec.decode(one, mix, output="tensor"), atol=2e-3)
    pils = codec.decode_many(data, mix)
    arrays = codec.decode_many(data, mix, output="array")
    assert [each.size for each in pils] == SIZES
    assert all(np.array_equal(a, b) for a, b in zip(pils, arrays, strict=True))


def test_latents_of_the_exact_profile_are_the_same_to_the_symbol(codec, files, monkeypatch):
    kept: dict[bytes, torch.Tensor] = {}
    real = many.decode_latents

    def decode(base: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        decoded = real(base, batch, *args, **kwargs)
        kept.update({each.y: y.clone() for each, y in zip(batch, decoded.y_hat, strict=True)})
        return decoded

    monkeypatch.setattr(many, "decode_latents", decode)
    codec.decode_many(files)
    assert len(kept) == len(files)
    for data in files:
        alone = codec.open(data).latents()[0]
        assert torch.equal(kept[unpack(data).named_streams["y"]], alone)


def test_one_tensor_where_all_sizes_agree(codec, sample):
    data = codec.encode_many([sample.resize((70, 50))] * 3)
    together = codec.decode_many(data, "cls", output="tensor")
    assert together.shape == (3, 3, 50, 70) and together.dtype == torch.float32
    assert 0 <= together.min() <= together.max() <= 1
    assert torch.allclose(together[1], codec.decode(data[1], "cls", output="tensor"), atol=1e-3)
    assert isinstance(codec.decode_many(data, output="array"), list)
    assert isinstance(codec.decode_many([*data, b""], output="tensor"), list)
    assert codec.decode_many(data[:1], output="tensor").shape == (1, 3, 50, 70)
    assert codec.decode_many([], output="tensor") == codec.encode_many([]) == []


def test_what_pictures_come_in(codec, sample):
    array = np.stack([np.asarray(sample.resize((40, 30)))] * 2)
    tensor = torch.from_numpy(array).permute(0, 3, 1, 2).float() / 255
    expected = codec.encode(array[0], reproducible=True)
    for images in (array, tensor, list(array), tuple(tensor), (each for each in array)):
        assert codec.encode_many(images, reproducible=True) == [expected] * 2
    data: Iterator[bytes] = iter([expected, expected])
    assert codec.decode_many(data, output="tensor").shape == (2, 3, 30, 40)


def _orientation(value: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif.tobytes()


def test_options_are_those_of_one(codec, sample):
    picture = sample.crop((0, 0, 50, 40))
    block = _orientation(6)
    options = {"exif": block, "icc_profile": b"", "reproducible": True}
    for orient in (True, False):
        given = {**options, "orient": orient}
        data = codec.encode_many([picture, picture], 2, **given)
        assert data == [codec.encode(picture, 2, **given)] * 2
        for flag in (True, False):
            a, b = codec.decode_many(data, orient=flag)
            alone = codec.decode(data[0], orient=flag)
            assert a.size == alone.size and a.info == b.info == alone.info
    with pytest.raises(QualityError):
        codec.encode_many([picture], 9)


# ---------------------------------------------------------------------- mixes


def test_a_mix_per_file(codec, files, seen):
    left = [np.zeros((height, width), bool) for width, height in SIZES]
    for mask in left:
        mask[:, : -(-mask.shape[1] // 2)] = True
    mixes = [None, "cls", {"cls": 0.5}, Mix(cls=0.5), Mix(), *map(_region, left[5:])]
    together = codec.decode_many(files, mixes, output="tensor")
    assert sorted(seen) == [1, 3, 4]  # the latents are a batch all the same
    for data, mix, found in zip(files, mixes, together, strict=True):
        assert torch.allclose(found, codec.decode(data, mix, output="tensor"), atol=2e-3)


def _region(mask: np.ndarray) -> Mix:
    return Mix(regions={"cls": mask})


def test_one_mask_for_all_is_for_those_it_fits(codec, files):
    fits = Mix(regions={"cls": np.ones((64, 64), bool)})
    results = codec.decode_many(files, fits)
    assert [isinstance(each, MixError) for each in results] == [size != (64, 64) for size in SIZES]
    assert "mask is 64x64, the picture is 100x70" in str(results[1])


def test_masks_are_drawn_on_the_upright_view(codec, sample):
    picture = sample.crop((0, 0, 60, 40))
    data = [codec.encode(picture, exif=_orientation(i), orient=False) for i in (1, 6, 3)]
    masks = [np.zeros(shape, bool) for shape in ((40, 60), (60, 40), (40, 60))]
    for mask in masks:
        mask[:20] = True
    mixes = [_region(mask) for mask in masks]
    for data_, mix, found in zip(data, mixes, codec.decode_many(data, mixes), strict=True):
        alone = np.asarray(codec.decode(data_, mix)).astype(int)
        assert np.abs(np.asarray(found) - alone).max() <= 1


@pytest.mark.parametrize(
    ("mix", "error", "text"),
    [
        (5, MixError, "mix is 5, expected a Mix"),
        ("det", PathNotFoundError, r"load_path\('det'\)"),
        (["cls"], MixError, "found 1 mixes for 8 files"),
    ],
)
def test_what_is_wrong_for_all_is_raised(codec, files, mix, error, text):
    with pytest.raises(error, match=text):
        codec.decode_many(files, mix)


def test_what_is_wrong_for_one_is_in_its_place(codec, files):
    results = codec.decode_many(files[:4], [None, "det", 5, "cls"])
    assert [type(each) for each in results[1:3]] == [PathNotFoundError, MixError]
    assert [results[0].size, results[3].size] == [SIZES[0], SIZES[3]]


# ---------------------------------------------------------------------- errors in their places


def test_a_bad_picture_is_in_its_place(codec, pictures, monkeypatch):
    bad = [*pictures[:2], None, np.zeros((4, 4, 7), np.uint8), *pictures[2:], "photo.png"]
    results = codec.encode_many(bad, reproducible=True)
    assert [i for i, each in enumerate(results) if isinstance(each, ImageError)] == [2, 3, 10]
    good = [each for each in results if isinstance(each, bytes)]
    assert good == codec.encode_many(pictures, reproducible=True)


def test_an_error_of_another_library_is_one_clear_line(codec, pictures, monkeypatch):
    real = many.PictureEncoder.prepare

    def prepare(self: Any, image: Any) -> Any:
        if image is pictures[1]:
            raise ZeroDivisionError("first line\nsecond line")
        return real(self, image)

    monkeypatch.setattr(many.PictureEncoder, "prepare", prepare)
    results = codec.encode_many(pictures[:3])
    assert [type(each) for each in results] == [bytes, MPAError, bytes]
    assert str(results[1]) == (
        "ZeroDivisionError in one item of many: first line; encode or decode it alone to see "
        "where it comes from"
    )
    assert isinstance(results[1].__cause__, ZeroDivisionError)


def test_no_memory_for_a_batch_is_enough_for_each(codec, files, monkeypatch):
    """Whatever a batch fails of, its pictures are tried one by one."""
    expected = codec.decode_many(files, output="array")
    real, tried = many.decode_latents, []

    def decode(base: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        tried.append(len(batch))
        if len(batch) > 1:
            raise torch.OutOfMemoryError("no memory")
        return real(base, batch, *args, **kwargs)

    monkeypatch.setattr(many, "decode_latents", decode)
    found = codec.decode_many(files, output="array")
    assert sorted(tried) == [1] * 8 + [3, 4]
    assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(found, expected, strict=True))


def test_a_bad_file_is_in_its_place(codec, files):
    container = unpack(files[2])
    forged = pack(dataclasses.replace(container, symbols_crc=container.symbols_crc ^ 1))
    other = MPACodec.from_preset("mpa-tiny", seed=7).encode(Image.new("RGB", (64, 64)))
    given = [files[0], forged, b"", files[3], files[1][:-1], None, other, files[7]]
    results = codec.decode_many(given)
    names = [type(each).__name__ for each in results]
    assert names == [
        *("Image", "DesyncError", "BitstreamError", "Image"),
        *("BitstreamError", "BitstreamError", "BaseMismatchError", "Image"),
    ]
    assert isinstance(results[1], DesyncError) and isinstance(results[4], BitstreamError)
    assert all("\n" not in str(each) for each in results)
    for i in (0, 3, 7):
        alone = np.asarray(codec.decode(given[i])).astype(int)
        assert np.abs(np.asarray(results[i]) - alone).max() <= 1


def test_an_error_that_is_kept_keeps_nothing_alive(codec, files):
    container = unpack(files[2])
    forged = pack(dataclasses.replace(container, symbols_crc=container.symbols_crc ^ 1))
    kept: list[weakref.ref[torch.Tensor]] = []
    real = many._render

    def render(*args: Any) -> Any:
        tensor = torch.zeros(3)
        kept.append(weakref.ref(tensor))
        return real(*args)

    many._render = render
    try:
        (error,) = codec.decode_many([forged])
    finally:
        many._render = real
    gc.collect()
    assert isinstance(error, DesyncError) and [ref() for ref in kept] == [None]


def test_damage_is_told_file_by_file(codec, files):
    given = [files[0], files[3][:-20], files[2], files[7][:-4]]
    with pytest.warns(DamageWarning) as caught:
        results = codec.decode_many(given, errors="conceal", output="array")
    assert [str(warning.message)[:8] for warning in caught] == ["file 1: ", "file 3: "]
    assert {warning.filename for warning in caught} == {__file__}
    for data, found in zip(given, results, strict=True):
        if data in files:
            alone = codec.decode(data, output="array")
        else:
            with pytest.warns(DamageWarning):
                alone = codec.decode(data, output="array", errors="conceal")
        assert np.abs(found.astype(int) - alone).max() <= 1
    strict = codec.decode_many(given)
    assert [isinstance(each, BitstreamError) for each in strict] == [False, True, False, True]


@pytest.mark.parametrize(
    "one",
    [b"file", "photo.jpg", Path("photo.jpg"), np.zeros((4, 4, 3), np.uint8), torch.zeros(3, 4, 4)],
    ids=lambda value: type(value).__name__,
)
def test_one_is_not_many(codec, sample, one):
    for call in (codec.encode_many, codec.decode_many):
        for value in (one, sample, None, 5):
            with pytest.raises(ConfigError, match=r"expected a list of .*; for one give \[it\]"):
                call(value)


# ---------------------------------------------------------------------- batches


def test_a_batch_has_as_many_as_the_limit_allows(codec, files, seen):
    four = 4 * 64 * 64
    found = codec.decode_many([files[0]] * 9, output="tensor", batch_pixels=four)
    assert seen == [4, 4, 1] and found.shape[0] == 9
    seen.clear()
    codec.encode_many([np.zeros((1, 1, 3), np.uint8)] * 5, batch_pixels=2 * 64 * 64)
    assert seen == [2, 2, 1]
    seen.clear()
    codec.decode_many([files[5]] * 2 + [files[0]] * 5, batch_pixels=1)  # larger ones run alone
    codec.decode_many([files[0]] * 2, batch_pixels=None)
    assert seen == [1] * 7 + [2]
    with pytest.raises(ConfigError, match="batch_pixels is 0"):
        codec.decode_many(files, batch_pixels=0)


@settings(max_examples=200, deadline=None)
@given(
    items=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 99)), max_size=60),
    sizes=st.lists(st.integers(1, 50), min_size=6, max_size=6),
    limit=st.integers(1, 120) | st.none(),
)
def test_batches_hold_everything_once_and_no_more_than_they_may(items, sizes, limit):
    taken = given_out = 0

    def counted() -> Iterator[tuple[int, int]]:
        nonlocal taken
        for item in items:
            taken += sizes[item[0]]
            if limit is not None:
                # Waiting, and just taken.
                assert taken - given_out <= 4 * limit + 2 * max(sizes)
            yield item

    found = []
    for batch in many.batches(
        counted(), key=lambda item: item[0], pixels=lambda item: sizes[item[0]], limit=limit
    ):
        assert len({key for key, _ in batch}) == 1
        total = len(batch) * sizes[batch[0][0]]
        assert limit is None or total <= limit or len(batch) == 1
        given_out += total
        found += batch
    assert sorted(found) == sorted(items)
    for key in range(6):  # in order, within a key
        assert [i for i in found if i[0] == key] == [i for i in items if i[0] == key]
