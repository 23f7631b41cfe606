"""A third party's plugin of task paths: its files, as pip would install them."""

from __future__ import annotations

from pathlib import Path

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
