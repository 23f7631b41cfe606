from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from mpa_core.errors import ConfigError
from mpa_core.tasks.photos import PhotoFolder
from mpa_core.training.data.photos import PhotoBatches
from mpa_core.training.settings.base import DataSettings, LossSettings

REAL = LossSettings(quality_sampling="per_image", quality_values="real")


def source(photos, data=None, loss=REAL, seed=7):
    data = data or DataSettings(crop=16, batch=4)
    return PhotoBatches(photos, data, loss, levels=8, seed=seed)


def numbered(count, side=16):
    """Photos of one colour each: the value is the number."""
    return [np.full((side, side, 3), index, np.uint8) for index in range(count)]


def test_a_batch_depends_on_seed_and_step_alone(photo_folder):
    photos = PhotoFolder(photo_folder, min_side=16, cache_mib=64)
    straight, direct, other = source(photos), source(photos), source(photos, seed=8)
    batches = [straight.batch(step) for step in range(4)]
    again = direct.batch(3)
    assert torch.equal(batches[3].images, again.images)
    assert torch.equal(batches[3].quality, again.quality)
    assert not torch.equal(other.batch(3).images, again.images)
    assert not torch.equal(batches[2].images, again.images)


def test_every_photo_once_an_epoch_in_another_order():
    photos = numbered(10)
    values = []
    for step in range(5):  # two epochs of ten in fives of four
        images = source(photos, DataSettings(crop=16, batch=4)).batch(step).images
        values += (images[:, 0, 0, 0] * 255).round().int().tolist()
    assert sorted(values[:10]) == sorted(values[10:]) == list(range(10))
    assert values[:10] != values[10:]


def test_batches_are_crops_in_channels_last(photo_folder):
    photos = PhotoFolder(photo_folder, min_side=64, cache_mib=64)
    images = source(photos, DataSettings(crop=64, batch=3)).batch(0).images
    assert images.shape == (3, 3, 64, 64) and images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.min() >= 0 and images.max() <= 1
    whole = [torch.from_numpy(photos[i]).permute(2, 0, 1) / 255 for i in range(len(photos))]
    for crop in images:
        flipped = (crop, crop.flip(-1))
        assert any(
            torch.equal(photo[:, top : top + 64, left : left + 64], version)
            for photo in whole
            for top in range(80 - 64 + 1)
            for left in range(96 - 64 + 1)
            for version in flipped
        )


def test_transposes_show_all_eight_orientations():
    corners = np.zeros((16, 16, 3), np.uint8)
    corners[0, 0], corners[0, -1], corners[-1, 0] = 50, 100, 150
    seen = set()
    batches = source([corners], DataSettings(crop=16, batch=64, transpose=True))
    for image in batches.batch(0).images:
        seen.add(tuple((image[0, [0, 0, -1], [0, -1, 0]] * 255).round().int().tolist()))
    assert len(seen) == 8
    plain = source([corners], DataSettings(crop=16, batch=64, flip=False)).batch(0).images
    assert torch.equal(plain, plain[:1].expand_as(plain))


def test_qualities():
    photos = numbered(1)
    data = DataSettings(crop=16, batch=4)
    per_step = source(photos, data, LossSettings())
    levels = Counter()
    for step in range(200):
        quality = per_step.places.quality(step)
        assert len(set(quality.tolist())) == 1
        levels[float(quality[0])] += 1
    assert sorted(levels) == [float(level) for level in range(1, 9)]
    assert min(levels.values()) > 8
    real = torch.cat([source(photos, data).places.quality(step) for step in range(50)])
    assert 1 <= real.min() < 1.5 and 7.5 < real.max() <= 8
    assert len(real.unique()) == 200


def test_another_device_is_given_the_same_batches():
    """All that does not ask for a device: pixels go there as bytes and are scaled there."""
    photos = numbered(10)
    for step in range(3):
        wanted = source(photos).batch(step)
        found = wanted.to("meta")
        assert found.pixels.dtype == torch.uint8
        assert found.images.device.type == "meta"
        assert (found.images.shape, found.images.dtype) == (wanted.images.shape, torch.float32)
        assert found.quality.shape == wanted.quality.shape


def test_scales_are_another_choice_of_the_same_seed(photo_folder):
    photos = PhotoFolder(photo_folder, min_side=64, cache_mib=64)
    scaled = DataSettings(crop=64, batch=4, scale=(0.5, 1))
    first = source(photos, scaled).batch(2)
    assert torch.equal(first.images, source(photos, scaled).batch(2).images)
    assert not torch.equal(
        first.images, source(photos, DataSettings(crop=64, batch=4)).batch(2).images
    )


@pytest.mark.parametrize("scale", [(0, 1), (0.5, 1.5), (1, 0.5), (0.5,), (float("nan"), 1)])
def test_scales_that_are_none(scale):
    with pytest.raises(ConfigError, match=r"^data: not a valid DataSettings: scale"):
        DataSettings.parse({"scale": scale}, source="data")
