"""What a step is given: the same whoever makes it, and nothing left behind."""

from __future__ import annotations

import multiprocessing
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from mpa_core.errors import MPAError, TrainingError
from mpa_core.tasks.photos import PhotoFolder
from mpa_core.training.data import loader as loader_module
from mpa_core.training.data.loader import Source, StepLoader
from mpa_core.training.data.photos import PhotoBatches
from mpa_core.training.data.places import Shard
from mpa_core.training.settings.base import DataSettings, LossSettings

REAL = LossSettings(quality_sampling="per_image", quality_values="real")
DATA = DataSettings(crop=64, batch=4)
SHARDS = [Shard(0, range(2)), Shard(1, range(2, 4))]


class Drawn(Source[torch.Tensor]):
    """Three numbers of torch's generator; an error at step 4."""

    steps_per_epoch = 1

    def batch(self, step, rows=None):
        if step == 4:
            raise TrainingError("no item at step 4")
        return torch.rand(3)


class Unsendable(Drawn):
    def __init__(self):
        self.hold = lambda: None


@pytest.fixture
def photos(photo_folder):
    folder = PhotoFolder(photo_folder, min_side=64, cache_mib=64)
    return PhotoBatches(folder, DATA, REAL, levels=8, seed=7)


@pytest.fixture
def loader():
    """``loader(source, …)``: one that is closed at the end, and whose workers are gone then."""
    made = []

    def make(source, workers=0, shards=SHARDS, seed=7):
        made.append(StepLoader(source, shards, seed=seed, workers=workers))
        return made[-1]

    yield make
    for each in made:
        each.close()
    assert multiprocessing.active_children() == []


def same(first, second):
    pairs = zip(first, second, strict=True)
    return all(
        torch.equal(a.pixels, b.pixels) and torch.equal(a.quality, b.quality) for a, b in pairs
    )


def test_workers_give_what_is_made_here(photos, loader):
    """In order, with a jump back and one ahead, as where a run is resumed; shards are rows."""
    here, there = loader(photos), loader(photos, workers=2)
    for step in (0, 1, 2, 1, 9, 10):
        found = there.parts(step)
        assert same(found, here.parts(step))
        whole = photos.batch(step)
        assert torch.equal(torch.cat([part.pixels for part in found]), whole.pixels)
        assert torch.equal(torch.cat([part.quality for part in found]), whole.quality)
        assert found[0].images.is_contiguous(memory_format=torch.channels_last)


def test_a_shard_is_a_function_of_seed_and_step_alone(photos, loader):
    alone = loader(photos, shards=SHARDS[1:])
    assert same(loader(photos).parts(5)[1:], alone.parts(5))
    other = PhotoBatches(photos.photos, DATA, REAL, levels=8, seed=8)
    assert not same(loader(other).parts(5)[1:], alone.parts(5))


def test_what_a_data_set_draws_follows_from_seed_step_and_shard(loader):
    torch.manual_seed(1)
    here = loader(Drawn())
    drawn = torch.stack([here.parts(step)[shard] for step in range(3) for shard in range(2)])
    assert len(drawn.unique(dim=0)) == 6
    assert torch.equal(loader(Drawn(), shards=SHARDS[1:]).parts(2)[0], drawn[5])
    assert torch.equal(loader(Drawn(), workers=1).parts(2)[1], drawn[5])
    assert not torch.equal(loader(Drawn(), seed=8).parts(2)[1], drawn[5])
    # Nothing was taken from the run's own generator.
    found = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(found, torch.rand(3))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_is_the_same_in_a_worker(loader, workers):
    made = loader(Drawn(), workers=workers)
    made.parts(3)
    with pytest.raises(MPAError, match=r"^no item at step 4$"):
        made.parts(4)
    assert len(made.parts(5)) == 2


# Torch says that a worker was ended at any moment, by the system's signal: not in pytest's process.
ENDED = """
import multiprocessing, os, signal

import torch

from mpa_core.errors import TrainingError
from mpa_core.training.data.loader import Source, StepLoader, lost_workers_named
from mpa_core.training.data.places import Shard
class Drawn(Source[torch.Tensor]):
    steps_per_epoch = 1
    def batch(self, step, rows=None):
        return torch.rand(3)
made = StepLoader(Drawn(), [Shard(0, range(2))], seed=0, workers=1)
made.parts(0)
(worker,) = multiprocessing.active_children()
os.kill(worker.pid, signal.SIGTERM)
made.parts(1)
print("goes on", flush=True)
try:
    with lost_workers_named():
        os.kill(worker.pid, signal.SIGKILL)
        for step in range(2, 12):
            made.parts(step)
except TrainingError as error:
    print(error, flush=True)
os._exit(0)
"""


def test_a_worker_that_is_ended_is_an_error_in_one_line():
    done = subprocess.run(
        [sys.executable, "-c", ENDED], capture_output=True, text=True, timeout=300
    )
    assert done.stderr == ""
    first, said = done.stdout.splitlines()
    assert first == "goes on"
    assert re.fullmatch(r"a process that makes batches was ended: .*--set data\.workers=0", said)
    assert said.count("was ended") == 1


def test_a_data_set_that_cannot_be_sent_is_refused(monkeypatch):
    monkeypatch.setattr(loader_module, "forks", lambda: False)
    assert len(StepLoader(Unsendable(), SHARDS, seed=0, workers=0).parts(0)) == 2
    with pytest.raises(TrainingError, match=r"cannot be sent .*; set data\.workers=0"):
        StepLoader(Unsendable(), SHARDS, seed=0, workers=1)


def test_photos_that_are_sent_are_read_there(photo_folder):
    photos = PhotoFolder(photo_folder, min_side=64, cache_mib=1)
    assert len(list(photos)) == 5 and photos.cached
    data = pickle.dumps(photos)
    assert len(data) < photos[0].nbytes
    sent = pickle.loads(data)
    assert not sent.cached
    assert all(np.array_equal(a, b) for a, b in zip(sent, photos, strict=True))
    assert sent.cached  # there was room for all of them


def test_workers_come_where_reading_or_a_gpu_asks_for_them(photo_folder):
    def wanted(cache_mib, device):
        photos = PhotoFolder(photo_folder, min_side=64, cache_mib=64)
        data = DATA.model_copy(update={"cache_mib": cache_mib})
        source = PhotoBatches(photos, data, REAL, levels=8, seed=7)
        return source.workers_for(torch.device(device))

    one = int(loader_module.forks())
    assert (wanted(64, "cpu"), wanted(0, "cpu"), wanted(64, "cuda")) == (0, one, one)
    assert Drawn().workers_for(torch.device("cuda")) == 0
