"""The files of a checkpoint folder are as the specification says."""

from __future__ import annotations

import json

import pytest
from folder_tools import CONFIG, contents
from safetensors import safe_open
from safetensors.torch import load_file

from mpa_core import checkpoints
from mpa_core.checkpoints.meta import BaseMeta, canonical_json, read_base_meta


def test_config_is_canonical_and_equal_saves_are_equal_bytes(tmp_path, base, model):
    text = (base / "config.json").read_text(encoding="utf-8")
    data = json.loads(text)
    assert text == json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert data.keys() == {
        "architecture", "dtype", "exact", "fingerprint", "format", "kind", "name", "requires",
    }  # fmt: skip
    checkpoints.save_base(tmp_path / "again", CONFIG, model.frozen_state(), name="org/tiny")
    assert contents(tmp_path / "again") == contents(base)


def test_path_config_has_the_documented_keys(saved_path):
    text = (saved_path / "path_config.json").read_text(encoding="utf-8")
    data = json.loads(text)
    assert data.keys() == {
        "base", "config", "dtype", "fingerprint", "format", "kind", "levels", "path_type",
        "plain", "plugin", "requires", "stages",
    }  # fmt: skip
    assert data["config"] == {"hidden_ratio": 1.5, "note": "ünïcode"}
    assert "ünïcode" in text


def test_spec_names_every_key(root, base, saved_path):
    spec = (root / "docs" / "spec" / "checkpoint.md").read_text()
    files = (base / "config.json", saved_path / "path_config.json")
    keys = {key for file in files for key in json.loads(file.read_text())}
    keys |= set(json.loads(files[0].read_text())["architecture"])
    assert sorted(key for key in keys if f"`{key}`" not in spec) == []


def test_metadata_sit_under_one_key(base, saved_path):
    for file in (base / "model.safetensors", saved_path / "path.safetensors"):
        with safe_open(file, framework="pt") as handle:
            metadata = handle.metadata()
        assert list(metadata) == ["mpa"]
        assert json.loads(metadata["mpa"])["format"] == 1


def test_path_file_holds_its_own_tensors_only(saved_path, path):
    assert load_file(saved_path / "path.safetensors").keys() == path.state_dict().keys()


def test_cards_have_front_matter(base, saved_path):
    for folder, tag in ((base, "mpa-base"), (saved_path, "mpa-path")):
        _, front, body = (folder / "README.md").read_text().split("---\n", 2)
        assert "license" not in front
        assert "library_name: mpa\n" in front
        assert f"- {tag}\n" in front
        assert '("./FOLDER")  # this folder' in body
    card = (saved_path / "README.md").read_text()
    assert 'MPACodec.from_pretrained("org/tiny")' in card
    assert "base_model: org/tiny\nbase_model_relation: adapter\n" in card


@pytest.mark.parametrize("folder", ["mpa_core/weights/mpa-small", "tests/golden/exact/tiny"])
def test_configs_from_before_there_were_types_stay_the_same_bytes(root, folder):
    meta = read_base_meta(root / folder)
    assert meta.architecture.type == "tinylic"
    assert canonical_json(meta) == (root / folder / "config.json").read_text(encoding="utf-8")
    stated = meta.model_dump(mode="json")
    stated["architecture"] = {"type": "tinylic", **stated["architecture"]}
    assert BaseMeta.parse(stated, source="with its type") == meta
