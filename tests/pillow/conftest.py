"""The plugin for Pillow with the smallest base, and pictures coded by it."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import exif_blocks
import icc_profiles as icc
import pytest
from PIL import Image

P3 = icc.profile(icc.DISPLAY_P3, icc.gamma_curve(2.2))


@pytest.fixture(scope="session")
def photo(sample) -> Image.Image:
    """A photo of 72x40."""
    return sample.crop((120, 60, 264, 140)).resize((72, 40))


@pytest.fixture(scope="module")
def data(codec, photo) -> bytes:
    """The photo as a file, upright, with a profile and an EXIF block."""
    return codec.encode(photo, icc_profile=P3, exif=exif_blocks.photo(orientation=1))


@pytest.fixture
def plugin(monkeypatch, tiny_base, tiny_cls_path) -> ModuleType:
    """The module, which has registered the format, told to decode by the smallest base."""
    monkeypatch.delenv("MPA_MIX", raising=False)
    monkeypatch.setenv("MPA_BASE", str(tiny_base))
    return importlib.import_module("mpa_core.pillow")


@pytest.fixture
def by_cls(plugin, tiny_cls_path) -> ModuleType:
    """The module, told to decode by the path ``cls``."""
    plugin.decode_by("cls", load=[str(tiny_cls_path)])
    return plugin


@pytest.fixture
def folder(data, codec, sample, tmp_path) -> Path:
    """Two classes, of three files and of one."""
    for name, count in (("cat", 3), ("dog", 1)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(count):
            picture = sample.crop((30 * number, 40, 30 * number + 48, 88))
            (tmp_path / "pictures" / name / f"{number}.mpa").write_bytes(codec.encode(picture))
    return tmp_path / "pictures"
