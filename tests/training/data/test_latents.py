"""Latents on disk: the same loss with and without, no wrong record whatever is in the files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpa_core.training.data.latents import LatentStore, encode_latents, picture_key

SHAPE = (2, 3, 4)
RECORD = 4 * 24


@pytest.fixture
def opened(tmp_path):
    """``opened(shape, limit)``: a store, closed after the test."""
    stores = []

    def make(shape=SHAPE, limit=2**20, folder=tmp_path):
        stores.append(LatentStore(folder, shape, limit))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def record(number):
    return torch.arange(24, dtype=torch.float32).view(SHAPE) + number


def key(number):
    return picture_key(np.full((2, 2, 3), number, np.uint8), 1.0)


def steps(trainer):
    found = [trainer.train_step(step, 0.5) for step in range(3)]
    return [{name: float(value) for name, value in record.scalars.items()} for record in found], [
        record.per_image for record in found
    ]


def test_the_loss_is_the_same_with_and_without(make_path_trainer):
    """Computed each time, computed and kept, read back: equal to the bit, and so is the path."""
    bare = make_path_trainer("edges")
    wanted, wanted_images = steps(bare)
    for hits in (0, 6):
        trainer = make_path_trainer("edges", "cache.limit_gib=1")
        found, images = steps(trainer)
        assert (trainer.objective.latents.hits, trainer.objective.latents.misses) == (
            hits,
            6 - hits,
        )
        assert found == wanted
        for mine, theirs in zip(images, wanted_images, strict=True):
            assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
        state = trainer.tensors()
        assert all(torch.equal(value, state[name]) for name, value in bare.tensors().items())
        trainer.objective.latents.close()


def test_pictures_encoded_together_are_those_encoded_alone(make_path_trainer):
    """Up to rounding; and what is kept of them is read back."""
    source = make_path_trainer("edges").source
    alone, together, kept = (
        make_path_trainer("edges", *settings).objective.latents
        for settings in (
            [],
            ["cache.batched=true"],
            ["cache.batched=true", "cache.limit_gib=1"],
        )
    )
    for step in range(3):
        given = source.batch(step)
        arguments = (given.pictures, given.batch.images, given.batch.quality)
        y_hat, bpp = alone(*arguments)
        for latents in (together, kept, kept):
            found, rate = latents(*arguments)
            # A value on the edge between two symbols may fall to either side.
            assert torch.isclose(found, y_hat, atol=1e-3).float().mean() > 0.99
            torch.testing.assert_close(rate, bpp, rtol=1e-3, atol=1e-4)
    assert (together.hits, together.misses) == (0, 6)
    assert (kept.hits, kept.misses) == (6, 6)
    kept.close()


def test_latents_are_those_of_the_codec(make_path_trainer):
    model = make_path_trainer("edges").objective.model
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    quality = torch.tensor([2.0, 7.5])
    y_hat, bpp = encode_latents(model, images, quality)
    with torch.no_grad():
        out = model(images, quality)
    assert torch.equal(y_hat, out["y_hat"])
    assert y_hat.unique().numel() > 10  # something is coded
    bits = sum(-torch.log2(v).flatten(1).sum(1) for v in out["likelihoods"].values())
    torch.testing.assert_close(bpp, bits / 64**2)


def test_real_qualities_are_not_kept(make_path_trainer):
    trainer = make_path_trainer("edges", "cache.limit_gib=1", "loss.quality_values=real")
    trainer.train_step(0, 0.5)
    assert (trainer.objective.latents.misses, len(trainer.objective.latents.store)) == (2, 0)


def test_a_key_tells_pixels_shape_and_quality_apart():
    image = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    keys = {
        picture_key(image, 1.0),
        picture_key(image, 2.0),
        picture_key(image.reshape(4, 3, 3), 1.0),
        picture_key(image + 1, 1.0),
        picture_key(image[:, ::-1], 1.0),
    }
    assert len(keys) == 5
    assert picture_key(image[:, ::-1][:, ::-1], 1.0) == picture_key(image, 1.0)


def test_kept_records_are_read_back_by_others(opened):
    first, second = (opened() for _ in range(2))
    first.put(key(1), record(1), 0.25)
    second.put(key(2), record(2), 0.5)  # at the same time, in files of its own
    assert second.get(key(1)) is None
    first.close()
    second.close()
    third = opened()
    assert len(third) == 2
    for number, bpp in ((1, 0.25), (2, 0.5)):
        found = third.get(key(number))
        assert torch.equal(found[0], record(number))
        assert found[1] == bpp
    third.put(key(1), record(9), 9.0)  # is there already
    assert torch.equal(third.get(key(1))[0], record(1))
    assert len(opened((2, 3, 5))) == 0


def test_the_limit_is_of_all_files_together(tmp_path, opened):
    store = opened(limit=3 * RECORD)
    for number in range(2):
        store.put(key(number), record(number), 0.0)
    store.close()
    store = opened(limit=3 * RECORD)
    for number in range(2, 5):
        store.put(key(number), record(number), 0.0)
    assert len(store) == 3
    assert store.get(key(4)) is None
    files = list(tmp_path.rglob("*.latents"))
    assert sum(file.stat().st_size for file in files) == 3 * RECORD


def test_a_full_disk_stops_the_keeping_and_nothing_else(tmp_path, opened, caplog):
    (tmp_path / "2x3x4").write_text("in the way")
    store = opened()
    store.put(key(1), record(1), 0.0)
    store.put(key(2), record(2), 0.0)
    assert store.get(key(1)) is None
    assert len([r for r in caplog.records if "kept no longer" in r.message]) == 1


@pytest.mark.parametrize("what", ["record", "length"])
def test_a_damaged_record_is_computed_anew(tmp_path, opened, what):
    store = opened()
    for number in range(2):
        store.put(key(number), record(number), 0.0)
    store.close()
    (file,) = tmp_path.rglob("*.latents")
    data = bytearray(file.read_bytes())
    data[RECORD + 5] ^= 1
    file.write_bytes(data if what == "record" else data[:-1])
    store = opened()
    assert torch.equal(store.get(key(0))[0], record(0))
    assert store.get(key(1)) is None
    store.put(key(1), record(1), 0.0)
    assert torch.equal(store.get(key(1))[0], record(1))


@settings(max_examples=60, deadline=None)
@given(index=st.binary(max_size=90), latents=st.binary(max_size=2 * RECORD))
def test_whatever_the_files_hold_no_wrong_record_comes_out(tmp_path_factory, index, latents):
    folder = tmp_path_factory.mktemp("store")
    store = LatentStore(folder, SHAPE, 2**20)
    store.put(key(1), record(1), 0.25)
    store.close()
    (file,) = folder.rglob("*.index")
    file.write_bytes(file.read_bytes() + index)
    file = file.with_suffix(".latents")
    file.write_bytes(file.read_bytes() + latents)
    store = LatentStore(folder, SHAPE, 2**20)
    assert torch.equal(store.get(key(1))[0], record(1))
    for place in list(store._places):
        found = store.get(place)
        assert found is None or place == key(1)
    store.close()
