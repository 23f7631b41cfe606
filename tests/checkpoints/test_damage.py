"""Every damaged or mismatched folder is refused in one line."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from folder_tools import CONFIG, WidePath, edit, one_line, reweigh

from mpa_core import checkpoints
from mpa_core.errors import BaseMismatchError, CheckpointError
from mpa_core.paths.path import TaskPath
from mpa_core.requirements import satisfies


def flip_bit(base: Path) -> None:
    file = base / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1  # the weights are at the end
    file.write_bytes(data)


DAMAGE = {
    "config missing": (lambda b: (b / "config.json").unlink(), r"has no config\.json"),
    "config broken": (lambda b: (b / "config.json").write_text("{"), "not readable JSON"),
    "config binary": (lambda b: (b / "config.json").write_bytes(b"\xff\xfe"), "not readable JSON"),
    "config nested": (lambda b: (b / "config.json").write_text("[" * 99999), "not readable JSON"),
    "config list": (lambda b: (b / "config.json").write_text("[]"), "holds a JSON list"),
    "wrong kind": (
        lambda b: edit(b / "config.json", kind="path"),
        "of kind 'path', expected 'base'",
    ),
    "unknown key": (
        lambda b: edit(b / "config.json", extra=1),
        r"extra: there is no such key.*; it asks for mpa-core>=0\.1",
    ),
    "key missing": (lambda b: edit(b / "config.json", name=...), "name: is missing; it asks"),
    "requires nonsense": (lambda b: edit(b / "config.json", requires="soon"), "requires 'soon'"),
    "requires number": (lambda b: edit(b / "config.json", requires=3), "requires 3, expected"),
    "requires newer": (
        lambda b: edit(b / "config.json", requires=">=9", format=2, shiny=1),
        r'requires mpa-core >=9 and has the unknown keys shiny.*run: pip install.*"mpa-core>=9"',
    ),
    "format newer": (
        lambda b: edit(b / "config.json", format=2, shiny=1),
        r"checkpoint format 2 and has the unknown keys shiny.*reads up to 1",
    ),
    "format older": (lambda b: edit(b / "config.json", format=0), "format: Input should be 1"),
    "bad architecture": (
        lambda b: edit(b / "config.json", architecture={"g_a": []}),
        r"architecture\.g_a",
    ),
    "other architecture": (
        lambda b: edit(
            b / "config.json",
            architecture=CONFIG.model_copy(update={"mlp_ratio": 3.0}).model_dump(mode="json"),
        ),
        r"tensor 'base\.g_a\.stages\.0\.blocks\.0\.mlp\.fc1\.weight' is .* expected",
    ),
    "weights missing": (lambda b: (b / "model.safetensors").unlink(), r"has no model\.safetensors"),
    "weights truncated": (
        lambda b: os.truncate(b / "model.safetensors", 5000),
        "not a whole safetensors file",
    ),
    "weights empty": (lambda b: os.truncate(b / "model.safetensors", 0), "0 bytes"),
    "weights huge header": (
        lambda b: (b / "model.safetensors").write_bytes(b"\xff" * 64),
        "not a whole safetensors file",
    ),
    "weights text": (
        lambda b: (b / "model.safetensors").write_text("version https://git-lfs"),
        "not a whole safetensors file",
    ),
    "torch pickle": (
        lambda b: torch.save({"a": torch.ones(2)}, b / "model.safetensors"),
        "is a pickle, expected safetensors",
    ),
    "plain pickle": (
        lambda b: (b / "model.safetensors").write_bytes(pickle.dumps({"a": 1})),
        "is a pickle, expected safetensors",
    ),
    "bit flipped": (flip_bit, "damaged or from another save"),
    "tensor missing": (
        lambda b: reweigh(b / "model.safetensors", lambda t: t.pop("base.y_gains.gain")),
        r"missing 'base\.y_gains\.gain'; expected exactly",
    ),
    "tensors unexpected": (
        lambda b: reweigh(
            b / "model.safetensors", lambda t: t.update({f"x{i}": torch.ones(1) for i in range(5)})
        ),
        "unexpected 'x0', 'x1', 'x2' and 2 more",
    ),
    "tensor reshaped": (
        lambda b: reweigh(
            b / "model.safetensors",
            lambda t: t.update({"base.y_gains.gain": t["base.y_gains.gain"].t().contiguous()}),
        ),
        r"tensor 'base\.y_gains\.gain' is .*expected torch\.float32 \[8, 32\]",
    ),
    "tensor float64": (
        lambda b: reweigh(
            b / "model.safetensors",
            lambda t: t.update({"base.y_gains.gain": t["base.y_gains.gain"].double()}),
        ),
        "is torch.float64, its config says storage is float32",
    ),
    "tensor float16": (
        lambda b: reweigh(
            b / "model.safetensors",
            lambda t: t.update({"base.y_gains.gain": t["base.y_gains.gain"].half()}),
        ),
        "is torch.float16, its config says storage is float32",
    ),
    "tensor integer": (
        lambda b: reweigh(
            b / "model.safetensors",
            lambda t: t.update({"base.y_gains.gain": t["base.y_gains.gain"].int()}),
        ),
        r"is torch\.int32 \[8, 32\], expected torch\.float32",
    ),
    "not a number": (
        lambda b: reweigh(
            b / "model.safetensors", lambda t: t["base.y_gains.gain"].fill_(float("nan"))
        ),
        r"NaN or infinity in 'base\.y_gains\.gain'",
    ),
    "infinite": (
        lambda b: reweigh(
            b / "model.safetensors", lambda t: t["base.y_gains.gain"].fill_(float("inf"))
        ),
        "NaN or infinity",
    ),
    "tables empty": (
        lambda b: reweigh(
            b / "model.safetensors",
            lambda t: t.update({"base.entropy.y_prior._offset": torch.empty(0, dtype=torch.int32)}),
        ),
        r"_offset' is empty",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_base_is_refused(base, damage):
    spoil, message = DAMAGE[damage]
    spoil(base)
    with pytest.raises(CheckpointError, match=message) as error:
        checkpoints.load_base(base)
    one_line(error)


def test_a_pickle_beside_a_missing_file_is_named(base):
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin will not be read \(pickle\)"):
        checkpoints.load_base(base)


def test_unreadable_weights_are_one_clear_error(base):
    (base / "model.safetensors").unlink()
    (base / "model.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="restore the file"):
        checkpoints.load_base(base)


def test_base_and_path_are_not_confused(base, saved_path):
    with pytest.raises(
        CheckpointError, match=r"is a path folder.*load_path, .*from_path, or --path"
    ):
        checkpoints.load_base(saved_path)
    with pytest.raises(CheckpointError, match=r"is a base folder.*MPACodec\.from_pretrained"):
        checkpoints.load_path(base)


def test_damaged_path_is_refused(saved_path, path):
    reweigh(saved_path / "path.safetensors", lambda t: t["stages.1.mlps.0.fc1.bias"].add_(1))
    with pytest.raises(CheckpointError, match="damaged or from another save"):
        checkpoints.load_path(saved_path)


def test_path_of_another_class_is_refused(saved_path):
    with pytest.raises(CheckpointError, match=r"note: there is no such key; .*install that ver"):
        checkpoints.load_path(saved_path).build(TaskPath)

    class Deeper(WidePath):
        def build_mlp(self, dim):
            return torch.nn.Linear(dim, dim)

    with pytest.raises(CheckpointError, match=r"missing .* and unexpected"):
        checkpoints.load_path(saved_path).build(Deeper)


def test_path_of_another_plugin_version_is_refused(tmp_path, path):
    def save_for(distribution, version):
        plugin = checkpoints.PluginRef(distribution=distribution, version=version)
        checkpoints.save_path(
            tmp_path / "p", path, base_name="b", base_fingerprint="0" * 64, plugin=plugin
        )
        return checkpoints.load_path(tmp_path / "p")

    loaded = save_for("torch", ">=1000")
    with pytest.raises(CheckpointError, match=r'needs torch >=1000.*pip install "torch>=1000"'):
        loaded.build(WidePath)
    for distribution, version in (("torch", ">=1"), ("torch", ""), ("not-installed", ">=2")):
        assert save_for(distribution, version).build(WidePath).name == "wide"


def test_a_prerelease_counts_as_its_release():
    assert satisfies("0.2.0.dev0", ">=0.2")
    assert satisfies("0.2.0rc1+local", ">=0.1,<1")
    assert not satisfies("0.2.0.dev0", ">=0.3")
    assert not satisfies("0.2.0", "<0.2")


def test_path_on_another_base(saved_path):
    loaded = checkpoints.load_path(saved_path)
    loaded.require_base("org/tiny", "0" * 64)
    with pytest.raises(BaseMismatchError) as error:
        loaded.require_base("mpa-small", "ab" * 32)
    text = one_line(error)
    for part in ("org/tiny", "mpa-small", "0" * 16, "ab" * 8):
        assert part in text
    assert 'MPACodec.from_pretrained("org/tiny")' in text
