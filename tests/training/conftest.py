"""Small photos, small runs and a third party's path, shared by the tests of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from edges_plugin import DISTRIBUTION, install
from PIL import Image

from mpa_core import MPACodec, checkpoints
from mpa_core.plugins.registry import registry
from mpa_core.tasks.recipe import load_recipe
from mpa_core.training.engine.parallel import make_accelerator
from mpa_core.training.engine.trainer import Trainer
from mpa_core.training.runs.path import build_path_trainer
from mpa_core.training.settings.base import TrainConfig, load_config
from mpa_core.training.settings.path import PathTrainConfig, load_path_config

FAST = (
    "model=mpa-tiny",
    "data.crop=64",
    "data.batch=2",
    "loss.perceptual=null",
    "loss.quality_sampling=per_image",
    "loss.quality_values=real",
    "schedule.kind=cosine",
    "schedule.warmup=0.2",
    "run.log_every=1",
    "run.checkpoint_minutes=1e-9",
    "budget.steps=6",
)

FAST_PATH = (
    "data.crop=64",
    "data.batch=2",
    "data.crops_per_photo=2",
    "loss.perceptual=null",
    "loss.quality_sampling=per_image",
    "run.log_every=1",
    "run.checkpoint_minutes=1e-9",
    "run.validate_images=2",
    "run.threads=1",
)


def save_pieces(sample: Image.Image, folder: Path, count: int) -> Path:
    """Different pieces, 96 x 80, of the bundled photo."""
    for index in range(count):
        box = (60 * index, 40 * index, 60 * index + 96, 40 * index + 80)
        sample.crop(box).save(folder / f"piece-{index}.png")
    return folder


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory, sample: Image.Image) -> Path:
    """Five photos."""
    return save_pieces(sample, tmp_path_factory.mktemp("photos"), 5)


@pytest.fixture(scope="session")
def few_photos(tmp_path_factory: pytest.TempPathFactory, sample: Image.Image) -> Path:
    """Three photos."""
    return save_pieces(sample, tmp_path_factory.mktemp("photos"), 3)


@pytest.fixture(scope="session")
def settings() -> Callable[..., TrainConfig]:
    """``settings("optim.lr=1", …)``: a fast run's settings with some changed."""
    return lambda *overrides: load_config(None, [*FAST, *overrides])


@pytest.fixture(scope="session")
def edges_plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The plugin with the path ``edges`` is installed from here on; its distribution."""
    folder = tmp_path_factory.mktemp("site")
    install(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        registry(refresh=True)
        yield DISTRIBUTION
    registry(refresh=True)


@pytest.fixture(scope="session")
def mask_folder(tmp_path_factory: pytest.TempPathFactory, few_photos: Path) -> Path:
    """A label map for each of :func:`few_photos`."""
    folder = tmp_path_factory.mktemp("masks")
    for photo in few_photos.iterdir():
        labels = np.indices((80, 96)).sum(0) // 60
        Image.fromarray(labels.astype(np.uint8)).save(folder / photo.name)
    return folder


@pytest.fixture(scope="session")
def path_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest base, as a folder, its weights random but for gains that give some contrast."""
    folder = tmp_path_factory.mktemp("bases") / "base"
    codec = MPACodec.from_preset("mpa-tiny")
    codec.model.base.y_gains.spread(4.0, 40.0)
    MPACodec(codec.model, name="tiny").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def path_settings(edges_plugin: str, path_base: Path) -> Callable[..., PathTrainConfig]:
    """``path_settings("edges", "optim.lr=1", …)``: a fast run's settings with some changed."""

    def make(name: str, *overrides: str) -> PathTrainConfig:
        defaults = load_recipe(name).defaults
        base = str(path_base)
        return load_path_config(name, base, None, [*FAST_PATH, *overrides], defaults=defaults)

    return make


@pytest.fixture
def make_path_trainer(
    path_settings, few_photos: Path, tmp_path: Path
) -> Iterator[Callable[..., Trainer]]:
    """``make_path_trainer("edges", "optim.lr=1", …)``: ready to step, without a store."""
    trainers = []

    def make(name: str, *overrides: str) -> Trainer:
        config = path_settings(name, "cache.limit_gib=0", *overrides)
        base = checkpoints.load_base(config.base)
        accelerator = make_accelerator(config.run)
        trainers.append(build_path_trainer(config, base, few_photos, accelerator, latents=tmp_path))
        return trainers[-1]

    yield make
    for trainer in trainers:
        trainer.close()
        trainer.objective.latents.close()
