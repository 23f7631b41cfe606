"""What is written comes back."""

from __future__ import annotations

import torch
from folder_tools import CONFIG, WidePath
from safetensors.torch import load_file

from mpa_core import MPACodec, checkpoints
from mpa_core.checkpoints.fingerprint import fingerprint


def test_base_comes_back(tmp_path, model):
    written = checkpoints.save_base(tmp_path / "b", CONFIG, model.frozen_state(), name="org/tiny")
    loaded = checkpoints.load_base(tmp_path / "b")
    assert (loaded.name, loaded.config, loaded.folder) == ("org/tiny", CONFIG, tmp_path / "b")
    assert loaded.fingerprint == written == fingerprint(model.frozen_state())
    expected = model.frozen_state()
    assert loaded.tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(loaded.tensors[name], tensor), name
        assert loaded.tensors[name].dtype == tensor.dtype, name
    assert not loaded.model.training
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    ours, theirs = model.compress(x, 3.5), loaded.model.compress(x, 3.5)
    assert ours["strings"] == theirs["strings"]


def test_loading_leaves_random_numbers_alone(base):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    checkpoints.load_base(base)
    assert torch.equal(torch.rand(3), expected)


def test_float16_is_the_rounded_base(tmp_path, model):
    state = model.frozen_state()
    written = checkpoints.save_base(tmp_path / "h", CONFIG, state, name="tiny", dtype="float16")
    checkpoints.save_base(tmp_path / "f", CONFIG, state, name="tiny")
    loaded = checkpoints.load_base(tmp_path / "h")
    assert loaded.fingerprint == written == fingerprint(loaded.tensors) != fingerprint(state)
    in_file = load_file(tmp_path / "h" / "model.safetensors")
    for name, tensor in state.items():
        halved = tensor.dtype == torch.float32 and tensor.dim() in (2, 4)
        assert in_file[name].dtype == (torch.float16 if halved else tensor.dtype), name
        expected = tensor.half().float() if halved else tensor
        assert loaded.tensors[name].dtype == expected.dtype, name
        assert torch.equal(loaded.tensors[name], expected), name
    assert any(t.dtype == torch.int32 for t in in_file.values())
    sizes = [(tmp_path / k / "model.safetensors").stat().st_size for k in "hf"]
    assert sizes[0] < sizes[1]
    # Saving what was loaded changes nothing more: the rounded base is a fixed point.
    again = checkpoints.save_base(
        tmp_path / "g", CONFIG, loaded.tensors, name="tiny", dtype="float16"
    )
    assert again == written


def test_path_comes_back(saved_path, path):
    loaded = checkpoints.load_path(saved_path)
    assert loaded.meta.path_type == "wide"
    assert loaded.meta.plugin == checkpoints.PluginRef(distribution="mpa-core", version=">=0.1")
    assert loaded.meta.base == checkpoints.BaseRef(repo_id="org/tiny", fingerprint="0" * 64)
    assert loaded.meta.path_stages == CONFIG.decoder_path_stages
    built = loaded.build(WidePath)
    assert built.config == path.config
    assert not built.training
    state = built.state_dict()
    assert state.keys() == path.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in path.state_dict().items())


def test_path_in_float16(tmp_path, path):
    checkpoints.save_path(
        tmp_path / "p", path, base_name="b", base_fingerprint="1" * 64, dtype="float16"
    )
    built = checkpoints.load_path(tmp_path / "p").build(WidePath)
    name = "stages.1.mlps.0.fc1.weight"
    assert torch.equal(built.state_dict()[name], path.state_dict()[name].half().float())


def test_path_keeps_plugin_revision_and_card(tmp_path, path):
    plugin = checkpoints.PluginRef(distribution="mpa-plugin-wide", version=">=2,<3")
    checkpoints.save_path(
        tmp_path / "p",
        path,
        base_name="org/tiny",
        base_fingerprint="2" * 64,
        base_revision="abc",
        plugin=plugin,
        card="# Mine\n",
    )
    meta = checkpoints.read_path_meta(tmp_path / "p")
    assert (meta.plugin, meta.base.revision) == (plugin, "abc")
    assert (tmp_path / "p" / "README.md").read_text() == "# Mine\n"


def test_a_base_is_hashed_once_for_each_of_its_identities(tmp_path, monkeypatch, tiny_base):
    hashed = []

    def counted(tensors):
        hashed.append(len(tensors))
        return fingerprint(tensors)

    for module in ("checkpoints.folders", "checkpoints.exact", "coding.profiles"):
        monkeypatch.setattr(f"mpa_core.{module}.fingerprint", counted)
    loaded = MPACodec.from_pretrained(tiny_base)
    assert len(hashed) == 2  # the base, and the base with the formats of its exact profile
    monkeypatch.undo()
    alike = MPACodec(loaded.model, name="alike", formats=loaded.profiles.formats)
    for name in ("fingerprint", "exact_fingerprint"):
        assert getattr(alike.profiles, name) == getattr(loaded.profiles, name)
