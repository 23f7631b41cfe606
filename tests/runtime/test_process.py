"""The process codecs live in: its settings change nothing of theirs, and they none of its."""

from __future__ import annotations

import decimal
import faulthandler
import json
import os
import random
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from mpa_core import MPACodec
from mpa_core.base.tinylic import attention
from mpa_core.base.tinylic.exact import tables as exact_tables
from mpa_core.errors import DamageWarning, ImageError, PictureWarning
from mpa_core.io.images import load_image, to_rgb_tensor
from mpa_core.runtime.surroundings import making_weights

SCRIPT = Path(__file__).with_name("process_state.py")


@pytest.fixture(scope="module")
def picture(sample) -> Image.Image:
    return sample.crop((0, 0, 90, 70))


# ---------------------------------------------------------------------- what we leave


@pytest.mark.parametrize("settings", ["usual", "otherwise"])
def test_nothing_of_the_process_is_changed(tiny_base, tiny_cls_path, sample, tmp_path, settings):
    sample.save(tmp_path / "photo.png")
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "photo.png", tiny_base, tiny_cls_path, settings],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    changed = json.loads(done.stdout)
    assert len(changed) > 10
    assert {step: what for step, what in changed.items() if what} == {}


def test_random_weights_of_a_seed_do_not_seed_other_devices():
    """What torch.manual_seed would do at their first use."""
    before = len(torch.cuda._queued_calls)
    MPACodec.from_preset("mpa-tiny", seed=5)
    assert len(torch.cuda._queued_calls) == before


def test_loading_in_many_threads_moves_no_random_numbers(tiny_base, tiny_cls_path):
    def load(_: int) -> None:
        together.wait(timeout=300)
        MPACodec.from_pretrained(tiny_base).load_path(tiny_cls_path)

    together = threading.Barrier(4)
    before = torch.get_rng_state()
    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(load, range(4)))
        assert torch.equal(torch.get_rng_state(), before)


def test_pictures_in_many_threads_leave_the_warnings_filters(sample, tmp_path):
    sample.crop((0, 0, 40, 40)).save(tmp_path / "photo.png")

    def load(_: int) -> None:
        together.wait(timeout=300)
        for _ in range(100):
            load_image(tmp_path / "photo.png")

    together = threading.Barrier(8)
    before = list(warnings.filters)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(load, range(8)))
    finally:
        sys.setswitchinterval(interval)
    assert warnings.filters == before


def test_a_damage_warning_points_at_its_caller(tiny_base, picture):
    codec = MPACodec.from_pretrained(tiny_base)
    data = codec.encode(picture)
    with pytest.warns(DamageWarning) as caught:
        codec.decode(data[:-1], errors="conceal")
    assert caught[0].filename == __file__


def test_a_picture_warning_points_at_its_caller(tiny_base, picture):
    codec = MPACodec.from_pretrained(tiny_base)
    odd = picture.copy()
    odd.info["icc_profile"] = b"no profile"
    for call in (codec.encode, to_rgb_tensor, lambda image: codec.encode_many([image])):
        with pytest.warns(PictureWarning, match="damaged ICC profile") as caught:
            call(odd)
        assert caught[0].filename == __file__


# ---------------------------------------------------------------------- what we depend on


@contextmanager
def set_to(write: Any, value: Any, usual: Any) -> Iterator[None]:
    write(value)
    try:
        yield
    finally:
        write(usual)


def default_dtype(dtype: torch.dtype) -> Any:
    return set_to(torch.set_default_dtype, dtype, torch.float32)


def default_device(device: str) -> Any:
    return set_to(torch.set_default_device, device, None)


@contextmanager
def decimals_rounded_up() -> Iterator[None]:
    default = decimal.DefaultContext
    before = default.rounding, default.traps.copy()
    default.rounding = decimal.ROUND_UP
    default.traps[decimal.Inexact] = True
    try:
        yield
    finally:
        default.rounding = before[0]
        default.traps = before[1]


@contextmanager
def other_random_numbers() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        np.random.seed(98)
        random.seed(97)
        yield


@contextmanager
def warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


SETTINGS = {
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "default device meta": lambda: default_device("meta"),
    "default device cuda:93": lambda: default_device("cuda:93"),
    "with meta": lambda: torch.device("meta"),
    "float64 on meta": lambda: _both(default_dtype(torch.float64), default_device("meta")),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "detect_anomaly": lambda: torch.autograd.set_detect_anomaly(True),
    "deterministic": lambda: set_to(torch.use_deterministic_algorithms, True, False),
    "medium precision": lambda: set_to(torch.set_float32_matmul_precision, "medium", "highest"),
    "denormals flushed": lambda: set_to(torch.set_flush_denormal, True, False),
    "numpy raises": lambda: np.errstate(all="raise"),
    "decimals": decimals_rounded_up,
    "random numbers": other_random_numbers,
    "warnings are errors": warnings_are_errors,
}
FIELDS = ("random weights", "fingerprints", "file", "float file", "reproducible", "pixels", "mixed")


@contextmanager
def _both(*contexts: Any) -> Iterator[None]:
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        yield


def everything(base: Path, path: Path, picture: Image.Image) -> dict[str, Any]:
    """What a codec gives, from loading on."""
    codec = MPACodec.from_pretrained(base)
    codec.load_path(path)
    data = codec.encode(picture, 4.3)
    in_float = codec.encode(picture, 2.1, profile="float")
    return {
        "random weights": MPACodec.from_preset("mpa-tiny", seed=11).fingerprint,
        "fingerprints": (codec.fingerprint, codec.profiles.exact_fingerprint),
        "file": data,
        "float file": in_float,
        "reproducible": codec.encode(picture, 4.3, reproducible=True),
        "pixels": [codec.decode(file).tobytes() for file in (data, in_float)],
        "mixed": [
            np.asarray(codec.decode(data, {"cls": share}, output="array")).tobytes()
            for share in (0.3, 1.0)
        ],
    }


@pytest.fixture(scope="module")
def expected(tiny_base, tiny_cls_path, picture) -> dict[str, Any]:
    return everything(tiny_base, tiny_cls_path, picture)


@pytest.mark.parametrize("name", SETTINGS)
def test_no_setting_of_the_process_changes_a_bit(tiny_base, tiny_cls_path, picture, expected, name):
    # What is computed once and kept is computed under the setting, too.
    exact_tables._table.cache_clear()
    attention._bias_index.cache_clear()
    with SETTINGS[name]():
        found = everything(tiny_base, tiny_cls_path, picture)
    assert {key: found[key] == expected[key] for key in FIELDS} == dict.fromkeys(FIELDS, True)


def test_saving_and_model_under_other_defaults(tiny_base, tiny_cls_path, picture, tmp_path):
    codec = MPACodec.from_pretrained(tiny_base)
    codec.load_path(tiny_cls_path)
    x = torch.rand(1, 3, 64, 64)
    plain = codec.model(x, 4.3, "cls")
    with default_dtype(torch.float64), torch.device("meta"):
        codec.save_pretrained(tmp_path / "again")
        out = codec.model(x, 4.3, "cls")
        coded = codec.model.compress(x, 4.3)
        back = codec.model.decompress(**coded, quality=4.3, mix={"cls": 1})
    assert out["x_hat"].dtype == torch.float32
    assert torch.equal(out["x_hat"], plain["x_hat"])
    for name in ("y", "z"):
        assert torch.equal(out["likelihoods"][name], plain["likelihoods"][name])
    assert torch.equal(back["x_hat"], plain["x_hat"].clamp(0, 1))
    again = MPACodec.from_pretrained(tmp_path / "again")
    assert again.fingerprint == codec.fingerprint


def test_pillows_own_limits_are_the_callers(sample, tmp_path):
    """Which pictures to trust is said to Pillow, and we take its word."""
    sample.save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="damaged or incomplete"):
        load_image(tmp_path / "cut.png")
    before = Image.MAX_IMAGE_PIXELS
    try:
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        assert load_image(tmp_path / "cut.png").size == sample.size
        Image.MAX_IMAGE_PIXELS = sample.width * sample.height - 1
        with pytest.raises(ImageError, match="MAX_IMAGE_PIXELS"):
            load_image(tmp_path / "whole.png")
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        Image.MAX_IMAGE_PIXELS = before


# ---------------------------------------------------------------------- forked children


def in_a_fork(call: Any) -> Any:
    """What ``call`` gives in a child, as JSON; a child that hangs shows where and is ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            faulthandler.dump_traceback_later(90, exit=True)
            os.write(writer, json.dumps(call()).encode())
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return json.loads(answer)


def used_threads() -> None:
    """OpenMP's pool is there now, and no fork inherits it."""
    torch.set_num_threads(2)
    torch.ones(512, 512).matmul(torch.ones(512, 512))


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    used_threads()
    yield
    torch.set_num_threads(before)


def test_a_forked_child_keeps_its_number_of_threads(two_threads):
    assert in_a_fork(torch.get_num_threads) == 2


@pytest.mark.parametrize("profile", ["exact", "float"])
def test_a_forked_child_that_codes_keeps_it_too_and_does_not_hang(
    tiny_base, tiny_cls_path, picture, two_threads, profile
):
    codec = MPACodec.from_pretrained(tiny_base)
    large = picture.resize((300, 200))  # enough for several threads
    x = torch.zeros(1, 3, 192, 256)  # in the child this would be torch's own, and wait for ever
    torch.set_num_threads(1)
    expected = codec.encode(large, profile=profile)
    torch.set_num_threads(2)

    def child() -> list[Any]:
        data = codec.encode(large, profile=profile)
        codec.decode(data)
        fresh = MPACodec.from_pretrained(tiny_base)
        fresh.load_path(tiny_cls_path)
        fresh.model(x, 4)
        coded = fresh.model.compress(x, 4)
        fresh.model.decompress(**coded, quality=4, mix="cls")
        return [
            data == expected,
            fresh.encode(large, profile=profile) == expected,
            fresh.encode(large, reproducible=True) != b"",
            torch.get_num_threads(),
        ]

    assert in_a_fork(child) == [True, True, True, 2]


def test_a_forked_child_may_code_in_threads_of_its_own(tiny_base, picture, two_threads):
    codec = MPACodec.from_pretrained(tiny_base)
    large = picture.resize((200, 150))
    torch.set_num_threads(1)
    expected = codec.encode(large)
    torch.set_num_threads(2)

    def child() -> list[Any]:
        with ThreadPoolExecutor(3) as pool:
            files = set(pool.map(lambda _: codec.encode(large), range(9)))
        return [len(files), files == {expected}, torch.get_num_threads()]

    assert in_a_fork(child) == [1, True, 2]


def test_a_fork_waits_until_no_thread_draws_weights():
    """torch's generator is locked during a draw; in the child nobody would unlock it."""
    drawing, stop = threading.Event(), threading.Event()

    def draw() -> None:
        while not stop.is_set():
            with making_weights(seed=1):
                drawing.set()
                torch.empty(2_000_000).normal_()

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        drawing.wait(timeout=60)
        for _ in range(5):
            assert in_a_fork(lambda: len(torch.get_rng_state())) == len(torch.get_rng_state())
    finally:
        stop.set()
        thread.join()


def test_a_fork_from_where_weights_are_made():
    with making_weights(seed=1):
        assert in_a_fork(lambda: MPACodec.from_preset("mpa-tiny", seed=1).fingerprint != "")


def test_a_fork_in_the_midst_of_loading_and_coding(tiny_base, picture, two_threads):
    """Locks that threads of the parent hold are nobody's in the child."""
    codec = MPACodec.from_pretrained(tiny_base)
    expected = codec.encode(picture)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            MPACodec.from_preset("mpa-tiny", seed=1)
            codec.encode(picture, profile="float")

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            answer = in_a_fork(
                lambda: [
                    MPACodec.from_pretrained(tiny_base).encode(picture) == expected,
                    MPACodec.from_preset("mpa-tiny", seed=1).fingerprint != codec.fingerprint,
                    MPACodec.from_pretrained(tiny_base).encode(picture, profile="float") != b"",
                ]
            )
            assert answer == [True, True, True]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
