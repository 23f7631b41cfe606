"""Photos on disk: what is left out, what is read when, and what stands for a damaged one."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from PIL import Image

from mpa_core.errors import ImageError, TrainingError
from mpa_core.tasks.photos import (
    PhotoFolder,
    Replacing,
    photo_shape,
    random_crop,
    read_photo,
    shrink,
)
from mpa_core.training.data.photos import PhotoBatches
from mpa_core.training.settings.base import DataSettings, LossSettings

LOSS = LossSettings(quality_sampling="per_image", quality_values="real")


def source(folder, cache_mib=64):
    photos = PhotoFolder(folder, min_side=16, cache_mib=cache_mib)
    return PhotoBatches(photos, DataSettings(crop=16, batch=4), LOSS, levels=8, seed=7)


def break_off(file):
    os.truncate(file, file.stat().st_size - 2000)


@pytest.fixture
def damaged_folder(tmp_path, sample):
    """Four photos, a to d; b and c break off behind their headers."""
    for index, name in enumerate("abcd"):
        sample.crop((80 * index, 40, 80 * index + 80, 120)).save(tmp_path / f"{name}.png")
    for name in "bc":
        break_off(tmp_path / f"{name}.png")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("a.png", "RGB", {}),
        ("a.png", "RGBA", {}),
        ("a.png", "P", {}),
        ("a.png", "1", {}),
        ("a.png", "I;16", {}),
        ("a.jpg", "L", {}),
        ("a.jpg", "RGB", {"exif": True}),
        ("a.jpg", "RGB", {"format": "MPO", "save_all": True}),
        ("a.webp", "RGB", {}),
        ("a.gif", "P", {}),
        ("a.tif", "RGB", {}),
        ("a.bmp", "RGB", {}),
        ("a.jp2", "RGB", {}),
    ],
)
def test_headers_say_the_size_of_the_picture(tmp_path, sample, name, mode, options):
    photo = sample.crop((80, 40, 180, 104))
    photo = Image.new("I;16", photo.size, 500) if mode == "I;16" else photo.convert(mode)
    if options.pop("exif", False):
        options["exif"] = photo.getexif()
        options["exif"][0x0112] = 6  # to be shown turned, as our readers do
    if options.get("save_all"):
        options["append_images"] = [photo.transpose(Image.Transpose.ROTATE_90)]
    shape = (100, 64, 3) if "exif" in options else (64, 100, 3)
    photo.save(tmp_path / name, **options)
    assert photo_shape(tmp_path / name) == read_photo(tmp_path / name).shape == shape


def test_broken_and_small_photos_are_counted(tmp_path, sample, caplog):
    small = sample.crop((0, 0, 80, 80))
    small.save(tmp_path / "good.png")
    sample.crop((0, 0, 80, 20)).save(tmp_path / "flat.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 not a photo")
    small.convert("CMYK").save(tmp_path / "print.jpg")
    frame = small.convert("L")
    frame.save(tmp_path / "film.gif", save_all=True, append_images=[frame.rotate(90)])
    (tmp_path / "notes.txt").write_text("not a photo either")
    photos = PhotoFolder(tmp_path, min_side=64, cache_mib=64)
    assert (len(photos), len(photos.broken), len(photos.small)) == (1, 3, 1)
    assert photos.shapes == [(80, 80, 3)] and photos.paths == [tmp_path / "good.png"]
    for name in ("broken.jpg", "print.jpg", "film.gif"):
        assert name in caplog.text
    assert "3 photos left out as unreadable, 1 as smaller than 64" in caplog.text


def test_what_is_not_taken_is_said(tmp_path, photo_folder, sample, caplog):
    (tmp_path / "._b.jpg").write_bytes(b"\0\5\26\7")
    (tmp_path / "linked").symlink_to(photo_folder)
    (tmp_path / "up").symlink_to(tmp_path.parent)
    for name in ("a.JFIF", "b.tga"):  # suffixes that encoding takes
        picture = sample.crop((0, 0, 80, 80))
        picture.save(tmp_path / name, "TGA" if name.endswith("tga") else "JPEG")
    photos = PhotoFolder(tmp_path, min_side=64, cache_mib=64)
    assert [path.name for path in photos.paths] == [
        "a.JFIF", "b.tga", *(f"piece-{index}.png" for index in range(5))
    ]  # fmt: skip
    assert photos.left_out == {"hidden files": 1, "links in a circle": 1}
    assert f"folder {tmp_path}: 1 hidden files, 1 links in a circle" in caplog.text


def test_folders_without_photos(tmp_path):
    with pytest.raises(TrainingError, match="no photos"):
        PhotoFolder(tmp_path, min_side=64, cache_mib=64)
    with pytest.raises(TrainingError, match="not a folder"):
        PhotoFolder(tmp_path / "missing", min_side=64, cache_mib=64)
    Image.new("RGB", (32, 32)).save(tmp_path / "small.png")
    with pytest.raises(TrainingError, match="1 have a side below 64"):
        PhotoFolder(tmp_path, min_side=64, cache_mib=64)


def test_photos_are_read_when_asked_for_and_kept_while_they_fit(photo_folder):
    photos = PhotoFolder(photo_folder, min_side=16, cache_mib=1)  # of 22.5 KiB each
    assert not photos.cached
    first = photos[0]
    assert photos[0] is first and not photos.cached
    assert np.array_equal(first, read_photo(photos.paths[0]))
    assert len(list(photos)) == 5 and photos.cached
    none = PhotoFolder(photo_folder, min_side=16, cache_mib=0)
    assert none[-1] is not none[-1]
    assert [p.tobytes() for p in none[1:4]] == [p.tobytes() for p in photos[1:4]]


def test_uncached_photos_give_the_same_batches(photo_folder):
    read, cached = source(photo_folder, cache_mib=0), source(photo_folder)
    for step in (0, 1, 2, 5):
        assert torch.equal(read.batch(step).images, cached.batch(step).images)


def test_a_damaged_photo_is_replaced_by_the_next(damaged_folder, caplog):
    photos = PhotoFolder(damaged_folder, min_side=16, cache_mib=64)
    assert len(photos) == 4 and not photos.broken
    with pytest.raises(ImageError, match=r"b\.png is damaged or incomplete"):
        photos[1]
    whole = Replacing(photos)
    found = whole.spread(4)
    assert found[0] is photos[0]
    assert all(photo is photos[3] for photo in found[1:])
    assert whole[2] is photos[3]
    lines = [r.getMessage() for r in caplog.records if "takes its place" in r.getMessage()]
    assert len(lines) == len(whole.damaged) == 2  # each is named once
    assert "b.png is damaged" in lines[0] and lines[1].endswith("its place (2 so far)")


def test_batches_with_damaged_photos_depend_on_seed_and_step_alone(damaged_folder):
    straight = source(damaged_folder)
    batches = [straight.batch(step) for step in range(4)]
    resumed = source(damaged_folder, cache_mib=0)
    assert torch.equal(resumed.batch(3).images, batches[3].images)
    assert len({tuple(image.flatten().tolist()) for b in batches for image in b.images}) == 16


def test_nothing_but_damaged_photos(damaged_folder):
    for name in "ad":
        break_off(damaged_folder / f"{name}.png")
    with pytest.raises(TrainingError, match=r"none of the 4 pictures can be read; the last: .*png"):
        source(damaged_folder).batch(0)


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.3, 0.9)])
def test_a_mask_is_cut_as_its_photo(scale):
    """Blocks of one colour and one label: where the two agree, they show the same place."""
    mask = np.kron(np.arange(80).reshape(8, 10), np.ones((24, 24), np.int64))
    photo = np.repeat(mask[..., None], 3, 2).astype(np.uint8)
    for seed in range(16):
        pixels, labels = (
            random_crop(
                picture, 32, np.random.default_rng(seed), flip=True, transpose=True, scale=scale
            )
            for picture in (photo, mask)
        )
        assert pixels.dtype == np.uint8 and pixels.shape == (32, 32, 3)
        assert labels.dtype == np.int64 and labels.shape == (32, 32)
        # Between blocks the photo has means of two or four colours; the labels are never mixed.
        assert set(labels.flat) <= set(range(80))
        assert (pixels[..., 0] == labels).mean() > 0.7
        assert scale != (1.0, 1.0) or (pixels[..., 0] == labels).all()


def test_a_crop_made_smaller_holds_the_means_of_its_areas():
    square = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    means = square.reshape(16, 3, 16, 3, 3).mean((1, 3))
    assert np.abs(shrink(square, 16) - means).max() <= 0.5 + 1e-4
    # Areas that share pixels have their parts of them: [0, 1.5) and [1.5, 3) of three.
    row = np.broadcast_to(np.array([30, 90, 240], np.uint8)[None, :, None], (3, 3, 3))
    found = shrink(np.ascontiguousarray(row), 2)[0, :, 0]
    assert found.tolist() == [(30 + 45) / 1.5, (45 + 240) / 1.5]
    labels = np.arange(9).reshape(3, 3)
    assert shrink(labels, 2).tolist() == [[0, 2], [6, 8]]
    assert shrink(labels, 3) is labels


def test_scales_are_drawn_from_their_range_as_far_as_the_crop_fits():
    """The slope of a ramp tells by how much it was made smaller."""

    def factors(height, width, scale):
        ramp = np.broadcast_to(np.arange(width, dtype=np.uint8)[None, :, None], (height, width, 3))
        for seed in range(200):
            random = np.random.default_rng(seed)
            crop = random_crop(ramp, 32, random, flip=False, transpose=False, scale=scale)
            yield 31 / (float(crop[0, -1, 0]) - float(crop[0, 0, 0]))

    found = np.array(list(factors(100, 120, (0.4, 0.8))))
    assert 0.38 < found.min() < 0.43 and 0.77 < found.max() < 0.82
    assert 0.55 < found.mean() < 0.65
    assert min(factors(40, 120, (0.1, 1.0))) > 0.75  # 32 of 40 pixels
    assert set(factors(32, 120, (0.1, 0.5))) == {1.0}


def test_without_scales_crops_are_what_they_were():
    photo = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    for seed in range(8):
        crop = random_crop(photo, 16, np.random.default_rng(seed), flip=True, transpose=False)
        random = np.random.default_rng(seed)
        top, left = (
            int(random.integers(0, 44, endpoint=True)),
            int(random.integers(0, 54, endpoint=True)),
        )
        wanted = photo[top : top + 16, left : left + 16]
        assert np.array_equal(crop, wanted[:, ::-1] if random.integers(0, 8) >= 4 else wanted)
