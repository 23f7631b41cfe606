"""Small photos, small stamps, and the first-party recipes, set up."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from mpa_core.plugins.registry import registry
from mpa_core.tasks.recipe import load_recipe


def first_party() -> list[str]:
    """Their names."""
    return sorted(path.name for path in registry().paths() if path.distribution == "mpa-core")


def pytest_generate_tests(metafunc):
    if "recipe_name" in metafunc.fixturenames:
        metafunc.parametrize("recipe_name", first_party())


@pytest.fixture(scope="session")
def photos(tmp_path_factory, sample: Image.Image) -> Path:
    """Two small photos."""
    folder = tmp_path_factory.mktemp("photos")
    for number, left in enumerate((80, 230)):
        sample.crop((left, 40, left + 144, 168)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def stamps(tmp_path_factory) -> Path:
    """A folder as Tux Paint's: blobs with soft edges, three colours for each class."""
    folder = tmp_path_factory.mktemp("stamps")
    places = ("animals/birds", "animals/mammals", "plants/flowers", "food/fruit",
              "symbols/money/euro/coins", "town/roadsigns")  # fmt: skip
    y, x = np.mgrid[-1:1:48j, -1:1:40j]
    for label, (place_, number) in enumerate(itertools.product(places, range(3))):
        alpha = np.clip(3 * (0.9 - np.hypot(x, y)), 0, 1)
        pixels = np.empty((48, 40, 4), np.uint8)
        pixels[..., :3] = np.random.default_rng(label).integers(0, 256, 3)
        pixels[..., 3] = alpha * 255
        (folder / place_).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels, "RGBA").save(folder / place_ / f"{number}.png")
    (folder / "town/roadsigns/0_mirror.png").write_bytes(b"not read")
    return folder


@pytest.fixture(scope="session")
def recipes(stamps: Path):
    """Each first-party recipe, set up."""
    found = {}
    for name in first_party():
        settings = {"stamps": stamps} if name == "seg" else {}
        found[name] = load_recipe(name)(settings)
        found[name].setup(torch.device("cpu"))
    return found


@pytest.fixture(scope="session")
def cat(sample: Image.Image) -> torch.Tensor:
    return pil_to_tensor(sample)[None].float() / 255


@pytest.fixture(scope="session")
def noisy():
    """``noisy(images, strength)``: the same noise every time, clamped to [0, 1]."""

    def add(images: torch.Tensor, strength: float) -> torch.Tensor:
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
        return (images + strength * noise).clamp(0, 1)

    return add
