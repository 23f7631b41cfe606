"""Small photos and a small run, shared by the tests of training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mpa_core.training.settings.base import TrainConfig, load_config

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


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory, sample: Image.Image) -> Path:
    """Five different pieces, 96 x 80, of the bundled photo."""
    folder = tmp_path_factory.mktemp("photos")
    for index in range(5):
        box = (60 * index, 40 * index, 60 * index + 96, 40 * index + 80)
        sample.crop(box).save(folder / f"piece-{index}.png")
    return folder


@pytest.fixture(scope="session")
def settings() -> Callable[..., TrainConfig]:
    """``settings("optim.lr=1", …)``: a fast run's settings with some changed."""
    return lambda *overrides: load_config(None, [*FAST, *overrides])
