"""A base and a path of the smallest size, in memory and as saved folders."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from mpa_core import checkpoints
from mpa_core.coding.model import MPAModel
from mpa_core.paths.path import TaskPath

sys.path.insert(0, str(Path(__file__).parent))  # lets the tests import the module beside them

from folder_tools import CONFIG, WidePath


@pytest.fixture(scope="session")
def model() -> MPAModel:
    torch.manual_seed(0)
    built = MPAModel(CONFIG).eval()
    built.update()
    return built


@pytest.fixture(scope="session")
def path() -> TaskPath:
    torch.manual_seed(1)
    config = WidePath.Config(note="ünïcode")
    return WidePath(CONFIG.decoder_path_stages, config, CONFIG.quality_levels)


@pytest.fixture
def base(tmp_path, model) -> Path:
    checkpoints.save_base(tmp_path / "base", CONFIG, model.frozen_state(), name="org/tiny")
    return tmp_path / "base"


@pytest.fixture
def saved_path(tmp_path, path) -> Path:
    checkpoints.save_path(tmp_path / "wide", path, base_name="org/tiny", base_fingerprint="0" * 64)
    return tmp_path / "wide"
