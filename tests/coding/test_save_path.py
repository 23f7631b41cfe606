"""``codec.save_path``: a loaded path as a folder that any codec of its base loads again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mpa_core
from mpa_core import Mix, MPACodec, TaskPath, checkpoints
from mpa_core.errors import OutputError, PathNotFoundError, PluginError


@pytest.fixture
def codec(tiny_base, save_cls_path, tmp_path) -> MPACodec:
    codec = MPACodec.from_pretrained(tiny_base)
    codec.load_path(save_cls_path(tiny_base, tmp_path / "first"), name="mine")
    return codec


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_saved_is_loaded_again(codec, tiny_base, sample, tmp_path, dtype):
    saved = codec.save_path("mine", tmp_path / "again", dtype=dtype)
    meta = checkpoints.read_path_meta(tmp_path / "again")
    assert meta.fingerprint == saved
    assert (meta.path_type, meta.base.fingerprint) == ("cls", codec.fingerprint)
    assert meta.plugin.distribution == "mpa-core"
    assert meta.plugin.version == f">={mpa_core.__version__}"
    other = MPACodec.from_pretrained(tiny_base)
    assert other.load_path(tmp_path / "again") == "cls"
    picture = sample.crop((0, 0, 70, 50))
    data = codec.encode(picture, 3)
    first = codec.decode(data, Mix(mine=1.0), output="tensor")
    second = other.decode(data, "cls", output="tensor")
    if dtype == "float32":
        assert torch.equal(first, second)
    else:
        assert np.abs((first - second).numpy()).max() < 0.01


def test_what_cannot_be_saved(codec, tmp_path):
    with pytest.raises(PathNotFoundError, match=r"no path 'cls' is loaded \(loaded: mine\)"):
        codec.save_path("cls", tmp_path / "x")

    class Unknown(TaskPath):
        name = "cls"

    codec.attach_path(Unknown(codec.model.config.decoder_path_stages), name="other")
    with pytest.raises(PluginError, match=r"no installed plugin offers .*Unknown as path 'cls'"):
        codec.save_path("other", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_folder_of_another_path_is_left_as_it_is(codec, tmp_path):
    folder = tmp_path / "theirs"
    codec.save_path("mine", folder)
    meta = folder / "path_config.json"
    meta.write_text(meta.read_text().replace('"path_type": "cls"', '"path_type": "det"'))
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(OutputError, match=r"holds the path 'det' .*; choose another folder"):
        codec.save_path("mine", folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("damage", [b"", b"{", b"{}"])
def test_what_is_no_path_is_replaced(codec, tmp_path, damage):
    folder = tmp_path / "again"
    codec.save_path("mine", folder)
    (folder / "path_config.json").write_bytes(damage)
    codec.save_path("mine", folder)
    assert checkpoints.read_path_meta(folder).path_type == "cls"
