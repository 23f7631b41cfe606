"""One codec in many threads, and codecs in child processes: the same bytes and pixels as ever."""

from __future__ import annotations

import copy
import json
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mpa_core import Mix, MPACodec

SCRIPT = Path(__file__).with_name("forked_and_spawned.py")
SIZES = [(1, 1), (40, 24), (64, 64), (100, 70), (33, 130), (150, 20)]
QUALITIES = [1, 2.75, 4.5, 8]
CALLERS = 8
MIXES = [None, Mix(cls=1.0), Mix(cls=0.4)]


@pytest.fixture
def load(tiny_base, tiny_cls_path):
    """A codec that has not coded anything yet: what it makes on first use is not made."""

    def call() -> MPACodec:
        codec = MPACodec.from_pretrained(tiny_base)
        codec.load_path(tiny_cls_path)
        return codec

    return call


@pytest.fixture
def single_thread() -> Iterator[None]:
    """One thread of torch in every thread of ours."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Work:
    """Pictures of all sizes and qualities, coded and decoded by every mix."""

    def __init__(self, sample: Image.Image, profile: str = "exact", every: int = 1) -> None:
        self.profile = profile
        self.cases = [
            (sample.crop((10 * i, 20, 10 * i + size[0], 20 + size[1])), quality, MIXES[i % 3])
            for i, (size, quality) in enumerate((s, q) for s in SIZES for q in QUALITIES)
        ][::every]

    def encode(self, codec: MPACodec, index: int) -> bytes:
        picture, quality, _ = self.cases[index]
        return codec.encode(picture, quality=quality, profile=self.profile)

    def decode(self, codec: MPACodec, index: int, data: bytes) -> bytes:
        return np.asarray(codec.decode(data, self.cases[index][2])).tobytes()


@pytest.mark.parametrize("profile", ["exact", "float"])
def test_one_codec_in_many_threads(load, sample, profile, single_thread):
    """Encoding and decoding at once, from the very first call on."""
    work = Work(sample, profile, every=1 if profile == "exact" else 2)
    alone = load()
    coded = [work.encode(alone, index) for index in range(len(work.cases))]
    pictures = [work.decode(alone, index, data) for index, data in enumerate(coded)]

    shared = load()
    together = threading.Barrier(CALLERS)
    jobs = [(kind, index) for index in range(len(work.cases)) for kind in ("encode", "decode")]
    random.Random(0).shuffle(jobs)

    def do(number: int) -> str | None:
        kind, index = jobs[number]
        if number < CALLERS:
            together.wait(timeout=300)
        if kind == "encode":
            same = work.encode(shared, index) == coded[index]
        else:
            same = work.decode(shared, index, coded[index]) == pictures[index]
        return None if same else f"{kind} {index}"

    with ThreadPoolExecutor(CALLERS) as pool:
        wrong = list(filter(None, pool.map(do, range(len(jobs)))))
    assert wrong == []


def test_each_thread_its_own_codec(load, sample, single_thread):
    """Loaded at the same time, too."""
    work = Work(sample, every=5)
    indexes = range(len(work.cases))
    expected = [work.encode(load(), index) for index in indexes]
    together = threading.Barrier(4)

    def do(_: int) -> list[bytes]:
        together.wait(timeout=300)
        codec = load()
        return [work.encode(codec, index) for index in indexes]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(do, range(4))) == [expected] * 4


def test_errors_in_one_thread_do_not_reach_the_others(load, sample, single_thread):
    codec = load()
    whole = codec.encode(sample.crop((0, 0, 60, 60)))
    damaged = whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:]
    picture = np.asarray(codec.decode(whole)).tobytes()

    def do(number: int) -> bytes | str:
        data = damaged if number % 2 else whole
        if number % 4 > 1:
            (found,) = codec.decode_many([data])
            good = isinstance(found, Image.Image)
            return np.asarray(found).tobytes() if good else type(found).__name__
        try:
            return np.asarray(codec.open(data).render()).tobytes()
        except ValueError as error:
            return type(error).__name__

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(do, range(24))) == [picture, "BitstreamError"] * 12


def test_batches_in_many_threads(load, sample, single_thread):
    """Encoded and decoded at once, from the very first call on."""
    alone, shared = load(), load()
    parts = [sample.crop((9 * i, 0, 9 * i + 50, 60 + 30 * (i % 2))) for i in range(6)]
    files = alone.encode_many(parts)
    expected = [np.asarray(each).tobytes() for each in alone.decode_many(files, "cls")]
    together = threading.Barrier(4)

    def do(number: int) -> bool:
        together.wait(timeout=300)
        if number % 2:
            return shared.encode_many(parts) == files
        found = shared.decode_many(files, "cls")
        return [np.asarray(each).tobytes() for each in found] == expected

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(do, range(8)))


def test_random_weights_of_a_seed_in_many_threads():
    def do(seed: int) -> str:
        together.wait(timeout=300)
        return MPACodec.from_preset("mpa-tiny", seed=seed).fingerprint

    expected = [MPACodec.from_preset("mpa-tiny", seed=seed).fingerprint for seed in range(4)]
    together = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(do, range(4))) == expected


# ---------------------------------------------------------------------- processes


@pytest.mark.parametrize("used", [False, True])
def test_a_codec_can_be_copied_and_pickled(load, sample, used):
    codec = load()
    picture = sample.crop((0, 0, 50, 40))
    expected = codec.encode(picture)
    if not used:
        codec = load()
    for other in (pickle.loads(pickle.dumps(codec)), copy.deepcopy(codec)):
        assert other.fingerprint == codec.fingerprint
        assert other.paths == codec.paths
        assert other.encode(picture) == expected
        other.encode(picture, profile="float")


@pytest.fixture(scope="module")
def children(tiny_base, sample, tmp_path_factory) -> dict[str, bool | str]:
    """By kind of child: whether what it coded is right. One process tries them all."""
    photo = tmp_path_factory.mktemp("photo") / "photo.png"
    sample.save(photo)
    done = subprocess.run(
        [sys.executable, SCRIPT, photo, tiny_base],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["pool", "forked loader", "plain fork"])
def test_forked_children_of_a_process_that_used_threads(children, kind):
    assert children[kind] is True


def test_spawned_workers_are_sent_the_codec(children):
    assert children["spawned loader"] is True
