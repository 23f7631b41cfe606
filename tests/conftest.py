"""Shared by all tests: threads, where the photos are, and the modules beside this one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from mpa_core import MPACodec, checkpoints
from mpa_core.training.engine.process import denormals_are_flushed
from mpa_plugins.cls.path import ClsPath

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "mpa_core" / "assets" / "chelsea.png"

sys.path.insert(0, str(ROOT / "tests"))

# No test reaches the Hugging Face Hub; those about it have a server on loopback.
os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_configure(config: pytest.Config) -> None:
    # The workers of pytest-xdist share the cores among them.
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


def _process_modes() -> dict[str, object]:
    return {
        "torch's threads": torch.get_num_threads(),
        "default dtype": torch.get_default_dtype(),
        "denormals are flushed": denormals_are_flushed(),
        "TF32": torch.backends.cuda.matmul.fp32_precision == "tf32",
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "gradients": torch.is_grad_enabled(),
    }


@pytest.fixture(autouse=True)
def _modes_are_as_before() -> Iterator[None]:
    """No test, and nothing that it calls, leaves the process in another mode for the next."""
    before = _process_modes()
    yield
    assert _process_modes() == before


@pytest.fixture(autouse=True)
def _pillow_forgets_mpa() -> Iterator[None]:
    """What a test, or a snippet, imports with ``mpa_core.pillow`` is unknown to the next one."""
    yield
    if sys.modules.pop("mpa_core.pillow", None) is not None:
        for known in (Image.OPEN, Image.SAVE, Image.MIME):
            known.pop("MPA", None)
        Image.ID.remove("MPA")
        Image.EXTENSION.pop(".mpa", None)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution of the repository, unpacked, and the wheel that is built of it."""
    from distributions import build_sdk

    return build_sdk(ROOT, tmp_path_factory.mktemp("distributions"))


@pytest.fixture(scope="session")
def sample() -> Image.Image:
    """The bundled photo, 451 x 300."""
    with Image.open(SAMPLE) as image:
        return image.convert("RGB")


@pytest.fixture(scope="session")
def save_cls_path() -> Callable[[Path, Path], Path]:
    """A function that writes a ``cls`` path with random weights for a base into a folder."""

    def save(base: Path, folder: Path) -> Path:
        codec = MPACodec.from_pretrained(base)
        with torch.random.fork_rng():
            torch.manual_seed(2)
            path = ClsPath(codec.model.config.decoder_path_stages)
        checkpoints.save_path(
            folder, path, base_name=codec.name, base_fingerprint=codec.fingerprint
        )
        return folder

    return save


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> Path:
    """The smallest base, with random weights, as a folder."""
    folder = tmp_path_factory.mktemp("base") / "base"
    MPACodec.from_preset("mpa-tiny").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_cls_path(tiny_base, save_cls_path, tmp_path_factory) -> Path:
    """A ``cls`` path on :func:`tiny_base`, as a folder."""
    return save_cls_path(tiny_base, tmp_path_factory.mktemp("path") / "cls")


@pytest.fixture(scope="module")
def codec(tiny_base, tiny_cls_path) -> MPACodec:
    """The smallest base with :func:`tiny_cls_path`."""
    found = MPACodec.from_pretrained(tiny_base)
    found.load_path(tiny_cls_path)
    return found


@pytest.fixture(scope="session")
def photos() -> list[Path]:
    """Real photos: the test split of $MPA_PHOTOS or ../shared/photos, else the bundled one."""
    folder = Path(os.environ.get("MPA_PHOTOS") or ROOT.parent / "shared" / "photos")
    return sorted((folder / "test").glob("*.png")) or [SAMPLE]


@pytest.fixture
def mpa(capsys):
    """Call ``mpa`` with arguments; a usage error of argparse is its exit code."""

    from forks import Result

    from mpa_core.cli.main import main

    def call(*args: object) -> Result:
        capsys.readouterr()
        try:
            code = main([str(arg) for arg in args])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Result(code, *capsys.readouterr())

    return call
