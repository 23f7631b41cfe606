"""Tiny bases with random weights, a path for one of them, and the command line in this process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forks import COMMANDS, ForkServer, Running, fork_server
from PIL import Image

from mpa_core import MPACodec


@pytest.fixture(autouse=True)
def _one_processor_is_meant(monkeypatch):
    """Runs over many files stay in this process, unless a test asks for workers."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def bases(tmp_path_factory) -> dict[str, Path]:
    """Folders of two bases that differ in their random weights alone."""
    root = tmp_path_factory.mktemp("bases")
    for name, seed in (("base", 0), ("other", 1)):
        MPACodec.from_preset("mpa-tiny", seed=seed).save_pretrained(root / name)
    return {name: root / name for name in ("base", "other")}


@pytest.fixture(scope="session")
def base(bases) -> Path:
    return bases["base"]


@pytest.fixture(scope="session")
def path_folder(base, save_cls_path, tmp_path_factory) -> Path:
    """A ``cls`` path with random weights for ``base``."""
    return save_cls_path(base, tmp_path_factory.mktemp("paths") / "cls")


@pytest.fixture(scope="session")
def picture(photos, tmp_path_factory) -> Path:
    """A piece of a real photo, 80x48."""
    file = tmp_path_factory.mktemp("pictures") / "photo.png"
    Image.open(photos[0]).convert("RGB").crop((100, 100, 180, 148)).save(file)
    return file


@pytest.fixture(scope="session")
def encoded(base, picture, tmp_path_factory) -> Path:
    """``picture`` as encoded by ``base`` at quality 3."""
    file = tmp_path_factory.mktemp("encoded") / "photo.mpa"
    file.write_bytes(MPACodec.from_pretrained(base).encode(Image.open(picture), quality=3))
    return file


@pytest.fixture(scope="session")
def _forks() -> Iterator[ForkServer]:
    with fork_server(COMMANDS, env={**os.environ, "OMP_NUM_THREADS": "1"}) as server:
        yield server


@pytest.fixture
def start(_forks, tmp_path_factory) -> Callable[..., Running]:
    """Start ``mpa`` with arguments in a real process, which can be killed."""

    def call(*args: object, stdin: object = os.devnull, **more: Any) -> Running:
        folder = tmp_path_factory.mktemp("process")
        return _forks.start(folder, words=[str(arg) for arg in args], stdin=str(stdin), **more)

    return call


@pytest.fixture(scope="session")
def tree(photos, tmp_path_factory) -> Path:
    """Pieces of a real photo in folders, with equal names in different ones, and other files."""
    root = tmp_path_factory.mktemp("tree")
    with Image.open(photos[0]) as photo:
        for number, name in enumerate(
            ("x.png", "a/x.png", "a/y.JPG", "b/x.png", "b/deep/er/x.png", "b/-.png")
        ):
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            left = 40 * number
            photo.convert("RGB").crop((left, 60, left + 32, 84)).save(file)
    (root / "b" / "notes.txt").write_text("not a picture")
    return root


@pytest.fixture
def turned_piece(sample: Image.Image, tmp_path: Path) -> Callable[[tuple[int, ...]], Path]:
    """Saves a piece of the bundled photo as ``photo.png``, with EXIF that turns it."""

    def save(box: tuple[int, ...]) -> Path:
        exif = Image.Exif()
        exif[0x0112] = 6
        sample.crop(box).save(tmp_path / "photo.png", exif=exif.tobytes())
        return tmp_path / "photo.png"

    return save


@pytest.fixture
def encode(mpa: Callable, photo: Path, tmp_path: Path) -> Callable:
    """``mpa encode`` of the test's ``photo`` with JSON, to ``tmp_path / "a.mpa"``."""

    def call(*args: object, output: str = "a.mpa"):
        return mpa("encode", photo, "-o", tmp_path / output, "--format", "json", *args)

    return call


@pytest.fixture
def usual_handlers() -> Iterator[None]:
    """A shell that starts the tests in the background has them ignore SIGINT."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
