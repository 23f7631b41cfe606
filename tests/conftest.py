"""Shared by all tests: threads, and where the photos are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "mpa_core" / "assets" / "chelsea.png"


def pytest_configure(config: pytest.Config) -> None:
    # The workers of pytest-xdist share the cores among them.
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def sample() -> Image.Image:
    """The bundled photo, 451 x 300."""
    with Image.open(SAMPLE) as image:
        return image.convert("RGB")


@pytest.fixture(scope="session")
def photos() -> list[Path]:
    """Real photos: the test split of $MPA_PHOTOS or ../shared/photos, else the bundled one."""
    folder = Path(os.environ.get("MPA_PHOTOS") or ROOT.parent / "shared" / "photos")
    return sorted((folder / "test").glob("*.png")) or [SAMPLE]
