"""Tiny bases with random weights, a path for one of them, and the command line in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mpa_core import MPACodec, hub
from mpa_core.cli.main import main
from mpa_plugins.cls.path import ClsPath


@dataclass
class Result:
    """What one call of the command did."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def errors(self) -> list[str]:
        return self.err.splitlines()


@pytest.fixture
def mpa(capsys):
    """Call ``mpa`` with arguments; a usage error of argparse is its exit code."""

    def call(*args: object) -> Result:
        capsys.readouterr()
        try:
            code = main([str(arg) for arg in args])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Result(code, *capsys.readouterr())

    return call


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
def path_folder(base, tmp_path_factory) -> Path:
    """A ``cls`` path with random weights for ``base``."""
    folder = tmp_path_factory.mktemp("paths") / "cls"
    codec = MPACodec.from_pretrained(base)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        path = ClsPath(codec.model.config.decoder_path_stages)
    hub.save_path(folder, path, base_name=codec.name, base_fingerprint=codec.fingerprint)
    return folder


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
