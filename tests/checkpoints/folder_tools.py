"""A path with settings of its own, and what the tests do to checkpoint folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from mpa_core.base.tinylic.presets import PRESETS
from mpa_core.config import PathConfig
from mpa_core.paths.path import TaskPath

CONFIG = PRESETS["mpa-tiny"]


class WidePath(TaskPath):
    name = "wide"

    class Config(PathConfig):
        hidden_ratio: float = 1.5
        note: str = "plain"


def edit(file: Path, **changes) -> None:
    data = json.loads(file.read_text())
    data.update(changes)
    file.write_text(json.dumps({k: v for k, v in data.items() if v is not ...}))


def reweigh(file: Path, change) -> None:
    tensors = load_file(file)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    change(tensors)
    save_file(tensors, file)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text
