"""A repository never makes code run: what a path needs is said, and a plain one needs nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mpa_core import MPACodec, PathConfig, TaskPath, checkpoints
from mpa_core.checkpoints import PluginRef
from mpa_core.errors import MPAError, PathNotFoundError, PluginError
from mpa_core.paths import SideMLP
from mpa_plugins.cls.path import ClsPath
from mpa_plugins.mse.path import MSEPath

STRANGER = PluginRef(distribution="mpa-plugin-stranger", version=">=1.2")


class Plain(TaskPath):
    name = "strange"

    class Config(PathConfig):
        hidden_ratio: float = 0.25


class Halved(SideMLP):
    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens) / 2


class OwnLayer(Plain):
    def build_mlp(self, dim: int) -> nn.Module:
        return Halved(dim, self.config.hidden_ratio)


class OwnStart(Plain):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.requires_grad_(False)


class OwnSetting(Plain):
    class Config(PathConfig):
        sharpness: float = 1.0


@pytest.mark.parametrize(
    ("path_class", "plain"),
    [
        *((each, True) for each in (TaskPath, Plain, ClsPath, MSEPath)),
        *((each, False) for each in (OwnLayer, OwnStart, OwnSetting)),
    ],
)
def test_what_is_plain(codec, path_class, plain):
    assert path_class(codec.model.config.decoder_path_stages).is_plain is plain


def saved(codec: MPACodec, path_class: type[TaskPath], folder: Path) -> TaskPath:
    """A trained path of a plugin that is not installed here."""
    torch.manual_seed(5)
    path = path_class(codec.model.config.decoder_path_stages)
    checkpoints.save_path(
        folder,
        path,
        base_name=codec.name,
        base_fingerprint=codec.fingerprint,
        plugin=STRANGER,
    )
    return path.eval()


def test_a_plain_path_needs_no_plugin(hub, tiny_base, sample, tmp_path):
    codec = MPACodec.from_pretrained(tiny_base)
    path = saved(codec, Plain, tmp_path / "first")
    assert codec.load_path(tmp_path / "first") == "strange"
    codec.attach_path(path, "own")
    data = codec.encode(sample.crop((0, 0, 64, 64)), 3)
    seen = [codec.decode(data, name, output="tensor") for name in ("strange", "own")]
    assert torch.equal(*seen)
    # Saved and published again, it is still the plugin's.
    codec.push_to_hub("lab/base", sample=sample.crop((0, 0, 64, 64)))
    codec.push_path_to_hub("strange", "lab/strange", sample=sample.crop((0, 0, 64, 64)))
    again = MPACodec.from_path("lab/strange")
    meta = checkpoints.read_path_meta(
        checkpoints.resolve("lab/strange", checkpoints.path_on("any"))
    )
    assert (meta.plugin, meta.plain, meta.path_type) == (STRANGER, True, "strange")
    assert torch.equal(again.decode(data, "strange", output="tensor"), seen[0])


def test_a_path_with_code_says_what_to_install(codec, tmp_path):
    saved(codec, OwnLayer, tmp_path / "path")
    with pytest.raises(PathNotFoundError) as error:
        codec.load_path(tmp_path / "path")
    assert str(error.value) == (
        f"path 'strange' in {tmp_path / 'path'} needs the code of its plugin, mpa-plugin-stranger, "
        'which is not installed; run: pip install "mpa-plugin-stranger>=1.2"'
    )
    assert isinstance(OwnLayer.from_pretrained(tmp_path / "path"), OwnLayer)
    with pytest.raises(PluginError, match=r"has a path of type 'strange', expected 'cls'"):
        ClsPath.from_pretrained(tmp_path / "path")


def test_errors_name_a_repository_and_not_its_folder_in_the_cache(
    hub, tiny_base, sample, monkeypatch
):
    codec = MPACodec.from_pretrained(tiny_base)
    small = sample.crop((0, 0, 64, 64))
    codec.push_to_hub("lab/base", sample=small)
    codec.attach_path(ClsPath(codec.model.config.decoder_path_stages))
    codec.push_path_to_hub("cls", "lab/path", sample=small)
    other = MPACodec.from_preset("mpa-tiny", seed=5)
    for call, words in (
        (lambda: MPACodec.from_pretrained("lab/path"), "is a path folder .* MPACodec.from_path"),
        (lambda: TaskPath.from_pretrained("lab/base"), "is a base folder .* --base"),
        (lambda: other.load_path("lab/path"), "was trained on base"),
    ):
        with pytest.raises(MPAError, match=words) as error:
            call()
        assert re.search(r"lab/(path|base)@[0-9a-f]{12} ", str(error.value))
        assert "snapshots" not in str(error.value)


def test_a_folder_from_before_needs_its_plugin(codec, tmp_path):
    saved(codec, Plain, tmp_path / "path")
    file = tmp_path / "path" / "path_config.json"
    config = json.loads(file.read_text("utf-8"))
    del config["plain"]
    file.write_text(json.dumps(config))
    with pytest.raises(PathNotFoundError, match=r'pip install "mpa-plugin-stranger>=1\.2"'):
        codec.load_path(tmp_path / "path")


@pytest.mark.parametrize(
    "changes",
    [
        {"plugin": {"distribution": 'x"; rm -rf ~; "', "version": ""}},
        {"base": {"repo_id": "a/b", "revision": "../../../x", "fingerprint": "0" * 64}},
    ],
)
def test_what_could_be_pasted_or_become_a_path_is_checked(codec, tmp_path, changes):
    saved(codec, Plain, tmp_path / "path")
    file = tmp_path / "path" / "path_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **changes}))
    with pytest.raises(checkpoints.meta.CheckpointError, match=r"not a valid PathMeta"):
        codec.load_path(tmp_path / "path")


def test_the_base_of_a_path_is_never_a_folder_here(hub, codec, tiny_base, tmp_path, monkeypatch):
    """A folder called as the repository that a stranger's path names is not taken for it."""
    codec.save_path("cls", tmp_path / "path")
    with pytest.raises(checkpoints.meta.CheckpointError, match=r"is neither bundled nor a reposit"):
        MPACodec.from_path(tmp_path / "path")
    file = tmp_path / "path" / "path_config.json"
    config = json.loads(file.read_text("utf-8"))
    config["base"]["repo_id"] = "here/base"
    file.write_text(json.dumps(config))
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "base").symlink_to(tiny_base)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match=r"there is no repository here/base"):
        MPACodec.from_path(tmp_path / "path")
