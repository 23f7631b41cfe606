"""A third party's plugin, installed; a small base; a few photos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpa_core import MPACodec, checkpoints
from mpa_core.plugins.registry import registry
from mpa_core.tasks.recipe import load_recipe
from mpa_core.training.engine.parallel import make_accelerator
from mpa_core.training.engine.trainer import Trainer
from mpa_core.training.runs.path import build_path_trainer
from mpa_core.training.settings.path import PathTrainConfig, load_path_config

DISTRIBUTION = "mpa-plugin-edges"

TOP = """
from mpa_core import PathSpec, hookimpl


@hookimpl
def mpa_task_paths():
    where = "mpa_plugin_edges.path"
    return [
        PathSpec(
            name="edges",
            path=f"{where}:EdgesPath",
            recipe="mpa_plugin_edges.recipe:EdgesRecipe",
            summary="Keeps edges where they are.",
        ),
        PathSpec(name="untrained", path=f"{where}:UntrainedPath", summary="Has no recipe."),
        PathSpec(
            name="odd",
            path=f"{where}:OddPath",
            recipe="mpa_plugin_edges.path:OddPath",
            summary="Its recipe is none.",
        ),
        PathSpec(
            name="lost",
            path=f"{where}:LostPath",
            recipe="mpa_plugin_edges.nowhere:LostRecipe",
            summary="Its recipe is not there.",
        ),
    ]
"""

PATH = """
import torch
from torch import nn

from mpa_core import PathConfig, TaskPath
from mpa_core.paths import SideMLP


class Centre(nn.Module):
    '''Subtracts a running mean, which is a buffer and no parameter.'''

    def __init__(self, dim):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))

    def forward(self, tokens):
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(tokens.flatten(0, -2).mean(0), 0.1)
        return tokens - self.mean


class EdgesPath(TaskPath):
    name = "edges"

    class Config(PathConfig):
        dropout: float = 0.1

    def build_mlp(self, dim):
        own = SideMLP(dim, self.config.hidden_ratio)
        return nn.Sequential(own, Centre(dim), nn.Dropout(self.config.dropout))


class UntrainedPath(TaskPath):
    name = "untrained"


class OddPath(TaskPath):
    name = "odd"


class LostPath(TaskPath):
    name = "lost"
"""

RECIPE = '''
from dataclasses import replace

import torch
from torch import nn

from mpa_core import Metric, Recipe, Sample
from mpa_core.config import StrictModel
from mpa_core.tasks import PLAIN, freeze


class Marked:
    """The photos of the SDK, each with a number of its own."""

    def __init__(self, photos):
        self.photos = photos

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, index):
        return replace(self.photos[index], target={"weight": torch.tensor(1.0 + index)})


class EdgesRecipe(Recipe):
    class Settings(StrictModel):
        strength: float = 30.0

    defaults = {
        "data": {"crop": 64, "batch": 2, "crops_per_photo": 2},
        "loss": {"perceptual": None, "quality_sampling": "per_image"},
        "budget": {"steps": 4},
    }

    def setup(self, device):
        self.model = freeze(
            nn.Sequential(
                nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)
            ).to(device)
        )

    def task_loss(self, x_hat, batch):
        difference = self.model(x_hat) - self.model(batch.images)
        return self.settings.strength * difference.square().mean((1, 2, 3))

    def dataset(self, root, split, crop):
        return Marked(super().dataset(root, split, crop))

    def metrics(self):
        def statistics(x_hat, batch):
            difference = self.model(x_hat) - self.model(batch.images)
            return difference.square().mean((1, 2, 3)) * batch.targets["weight"]

        edges = Metric(statistics, higher_is_better=False, unit=PLAIN)
        return {**super().metrics(), "edges": edges}
'''


FAST = (
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


def install(folder: Path) -> None:
    """What pip would have put into ``folder``."""
    package = folder / "mpa_plugin_edges"
    package.mkdir()
    for name, text in (("__init__", TOP), ("path", PATH), ("recipe", RECIPE)):
        (package / f"{name}.py").write_text(text)
    info = folder / "mpa_plugin_edges-1.2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: 1.2.0\n")
    (info / "entry_points.txt").write_text("[mpa.plugins]\nedges = mpa_plugin_edges\n")


@pytest.fixture(scope="session", autouse=True)
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The plugin is installed while these tests run; its distribution."""
    folder = tmp_path_factory.mktemp("site")
    install(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        registry(refresh=True)
        yield DISTRIBUTION
    registry(refresh=True)


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory, sample: Image.Image) -> Path:
    """Three pieces, 96 x 80, of the bundled photo."""
    folder = tmp_path_factory.mktemp("photos")
    for index in range(3):
        box = (60 * index, 40 * index, 60 * index + 96, 40 * index + 80)
        sample.crop(box).save(folder / f"piece-{index}.png")
    return folder


@pytest.fixture(scope="session")
def mask_folder(tmp_path_factory: pytest.TempPathFactory, photo_folder: Path) -> Path:
    """A label map for each of them."""
    folder = tmp_path_factory.mktemp("masks")
    for photo in photo_folder.iterdir():
        labels = np.indices((80, 96)).sum(0) // 60
        Image.fromarray(labels.astype(np.uint8)).save(folder / photo.name)
    return folder


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest base, with random weights that make a picture of some contrast."""
    folder = tmp_path_factory.mktemp("bases") / "base"
    codec = MPACodec.from_preset("mpa-tiny")
    codec.model.base.y_gains.spread(4.0, 40.0)
    MPACodec(codec.model, name="tiny").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def settings(base_folder: Path) -> Callable[..., PathTrainConfig]:
    """``settings("edges", "optim.lr=1", …)``: a fast run's settings with some changed."""

    def make(name: str, *overrides: str) -> PathTrainConfig:
        defaults = load_recipe(name).defaults
        base = str(base_folder)
        return load_path_config(name, base, None, [*FAST, *overrides], defaults=defaults)

    return make


@pytest.fixture
def make_stage(settings, photo_folder: Path, tmp_path: Path) -> Iterator[Callable[..., Trainer]]:
    """``make_stage("edges", "optim.lr=1", …)``: a stage ready to step, without a store."""
    stages = []

    def make(name: str, *overrides: str) -> Trainer:
        config = settings(name, "cache.limit_gib=0", *overrides)
        base = checkpoints.load_base(config.base)
        accelerator = make_accelerator(config.run)
        stages.append(build_path_trainer(config, base, photo_folder, accelerator, latents=tmp_path))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()
        stage.objective.latents.close()
