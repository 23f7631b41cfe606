"""Checkpoint folders: what is written comes back, and everything else is refused in one line."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mpa_core import hub
from mpa_core.config import PathConfig
from mpa_core.errors import BaseMismatchError, CheckpointError, ConfigError, OutputError
from mpa_core.fingerprint import fingerprint
from mpa_core.hub import locate, write
from mpa_core.hub.meta import satisfies
from mpa_core.model import MPAModel
from mpa_core.paths.path import TaskPath
from mpa_core.presets import PRESETS

CONFIG = PRESETS["mpa-tiny"]


class WidePath(TaskPath):
    name = "wide"

    class Config(PathConfig):
        hidden_ratio: float = 1.5
        note: str = "plain"


@pytest.fixture(scope="module")
def model() -> MPAModel:
    torch.manual_seed(0)
    built = MPAModel(CONFIG).eval()
    built.update()
    return built


@pytest.fixture(scope="module")
def path() -> TaskPath:
    torch.manual_seed(1)
    config = WidePath.Config(note="ünïcode")
    return WidePath(CONFIG.decoder_path_stages, config, CONFIG.quality_levels)


@pytest.fixture
def base(tmp_path, model) -> Path:
    hub.save_base(tmp_path / "base", CONFIG, model.frozen_state(), name="org/tiny")
    return tmp_path / "base"


@pytest.fixture
def saved_path(tmp_path, path) -> Path:
    hub.save_path(tmp_path / "wide", path, base_name="org/tiny", base_fingerprint="0" * 64)
    return tmp_path / "wide"


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


# ---------------------------------------------------------------- round trips


def test_base_comes_back(tmp_path, model):
    written = hub.save_base(tmp_path / "b", CONFIG, model.frozen_state(), name="org/tiny")
    loaded = hub.load_base(tmp_path / "b")
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
    hub.load_base(base)
    assert torch.equal(torch.rand(3), expected)


def test_float16_is_the_rounded_base(tmp_path, model):
    state = model.frozen_state()
    written = hub.save_base(tmp_path / "h", CONFIG, state, name="tiny", dtype="float16")
    hub.save_base(tmp_path / "f", CONFIG, state, name="tiny")
    loaded = hub.load_base(tmp_path / "h")
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
    again = hub.save_base(tmp_path / "g", CONFIG, loaded.tensors, name="tiny", dtype="float16")
    assert again == written


def test_path_comes_back(saved_path, path):
    loaded = hub.load_path(saved_path)
    assert loaded.meta.path_type == "wide"
    assert loaded.meta.plugin == hub.PluginRef(distribution="mpa-core", version=">=0.1")
    assert loaded.meta.base == hub.BaseRef(repo_id="org/tiny", fingerprint="0" * 64)
    assert loaded.meta.path_stages == CONFIG.decoder_path_stages
    built = loaded.build(WidePath)
    assert built.config == path.config
    assert not built.training
    state = built.state_dict()
    assert state.keys() == path.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in path.state_dict().items())


def test_path_in_float16(tmp_path, path):
    hub.save_path(tmp_path / "p", path, base_name="b", base_fingerprint="1" * 64, dtype="float16")
    built = hub.load_path(tmp_path / "p").build(WidePath)
    name = "stages.1.mlps.0.fc1.weight"
    assert torch.equal(built.state_dict()[name], path.state_dict()[name].half().float())


def test_path_keeps_plugin_revision_and_card(tmp_path, path):
    plugin = hub.PluginRef(distribution="mpa-plugin-wide", version=">=2,<3")
    hub.save_path(
        tmp_path / "p",
        path,
        base_name="org/tiny",
        base_fingerprint="2" * 64,
        base_revision="abc",
        plugin=plugin,
        card="# Mine\n",
    )
    meta = hub.read_path_meta(tmp_path / "p")
    assert (meta.plugin, meta.base.revision) == (plugin, "abc")
    assert (tmp_path / "p" / "README.md").read_text() == "# Mine\n"


# ---------------------------------------------------------------- the files


def test_config_is_canonical_and_equal_saves_are_equal_bytes(tmp_path, base, model):
    text = (base / "config.json").read_text(encoding="utf-8")
    data = json.loads(text)
    assert text == json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert data.keys() == {
        "architecture", "dtype", "fingerprint", "format", "kind", "name", "requires",
    }  # fmt: skip
    hub.save_base(tmp_path / "again", CONFIG, model.frozen_state(), name="org/tiny")
    assert contents(tmp_path / "again") == contents(base)


def test_path_config_has_the_documented_keys(saved_path):
    text = (saved_path / "path_config.json").read_text(encoding="utf-8")
    data = json.loads(text)
    assert data.keys() == {
        "base", "config", "dtype", "fingerprint", "format", "kind", "levels", "path_type",
        "plugin", "requires", "stages",
    }  # fmt: skip
    assert data["config"] == {"hidden_ratio": 1.5, "note": "ünïcode"}
    assert "ünïcode" in text


def test_spec_names_every_key(base, saved_path):
    spec = (Path(__file__).parent.parent / "docs" / "spec" / "checkpoint.md").read_text()
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
        assert "license: apache-2.0\n" in front
        assert f"- {tag}\n" in front
        assert 'MPACodec.from_pretrained("org/tiny")' in body
    assert "base_model: org/tiny\n" in (saved_path / "README.md").read_text()


# ---------------------------------------------------------------- finding


def test_bundled_ids_and_folders(tmp_path, monkeypatch, base):
    packages = tmp_path / "package"
    (packages / "weights").mkdir(parents=True)
    base.rename(packages / "weights" / "tiny-one")
    (packages / "weights" / "not-a-base").mkdir()
    monkeypatch.setattr(locate.resources, "files", lambda name: packages)
    assert hub.bundled_bases() == {"tiny-one": packages / "weights" / "tiny-one"}
    assert hub.load_base("tiny-one").name == "org/tiny"
    monkeypatch.chdir(tmp_path)
    Path("tiny-one").mkdir()
    assert hub.resolve("tiny-one") == packages / "weights" / "tiny-one"
    with pytest.raises(CheckpointError) as error:
        hub.resolve("tiny-two")
    assert "tiny-one" in one_line(error)


def test_a_saved_folder_wins_over_a_bundled_id(tmp_path, monkeypatch, base):
    monkeypatch.setattr(locate, "bundled_bases", lambda: {"base": Path("/elsewhere")})
    monkeypatch.chdir(tmp_path)
    assert hub.resolve("base") == Path("base")


def test_what_cannot_be_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as error:
        hub.resolve("org/model")
    assert "hf download org/model" in one_line(error)
    Path("empty").mkdir()
    with pytest.raises(CheckpointError, match=r"empty has neither config\.json nor"):
        hub.resolve("empty")
    Path("file.pth.tar").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"mpa import-official file\.pth\.tar"):
        hub.load_base("file.pth.tar")
    with pytest.raises(CheckpointError, match="is not a folder"):
        hub.load_path("nothing-here")


def test_describing_a_folder_needs_no_torch(base, saved_path):
    code = (
        "import sys; from pathlib import Path; from mpa_core import hub; "
        f"print(hub.read_base_meta(Path({str(base)!r})).name, "
        f"hub.read_path_meta(Path({str(saved_path)!r})).path_type, len(hub.bundled_bases()) >= 0); "
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("org/tiny wide")


# ---------------------------------------------------------------- damage


def flip_bit(base: Path) -> None:
    file = base / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1  # the weights are at the end
    file.write_bytes(data)


DAMAGE = {
    "config missing": (lambda b: (b / "config.json").unlink(), r"has neither config\.json"),
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
        r"extra: Extra inputs are not permitted; it asks for mpa-core>=0\.1",
    ),
    "key missing": (lambda b: edit(b / "config.json", name=...), "name: Field required"),
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
        hub.load_base(base)
    one_line(error)


def test_a_pickle_beside_a_missing_file_is_named(base):
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin will not be read \(pickle\)"):
        hub.load_base(base)


def test_unreadable_weights_are_one_clear_error(base):
    (base / "model.safetensors").unlink()
    (base / "model.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="restore the file"):
        hub.load_base(base)


def test_base_and_path_are_not_confused(base, saved_path):
    with pytest.raises(CheckpointError, match=r"is a path folder.*load it with codec\.load_path"):
        hub.load_base(saved_path)
    with pytest.raises(CheckpointError, match=r"is a base folder.*MPACodec\.from_pretrained"):
        hub.load_path(base)


def test_damaged_path_is_refused(saved_path, path):
    reweigh(saved_path / "path.safetensors", lambda t: t["stages.1.mlps.0.fc1.bias"].add_(1))
    with pytest.raises(CheckpointError, match="damaged or from another save"):
        hub.load_path(saved_path)


def test_path_of_another_class_is_refused(saved_path):
    with pytest.raises(CheckpointError, match=r"note: Extra inputs.*install that version"):
        hub.load_path(saved_path).build(TaskPath)

    class Deeper(WidePath):
        def build_mlp(self, dim):
            return torch.nn.Linear(dim, dim)

    with pytest.raises(CheckpointError, match=r"missing .* and unexpected"):
        hub.load_path(saved_path).build(Deeper)


def test_path_of_another_plugin_version_is_refused(tmp_path, path):
    def save_for(distribution, version):
        plugin = hub.PluginRef(distribution=distribution, version=version)
        hub.save_path(tmp_path / "p", path, base_name="b", base_fingerprint="0" * 64, plugin=plugin)
        return hub.load_path(tmp_path / "p")

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
    loaded = hub.load_path(saved_path)
    loaded.require_base("org/tiny", "0" * 64)
    with pytest.raises(BaseMismatchError) as error:
        loaded.require_base("mpa-small", "ab" * 32)
    text = one_line(error)
    for part in ("org/tiny", "mpa-small", "0" * 16, "ab" * 8):
        assert part in text
    assert 'MPACodec.from_pretrained("org/tiny")' in text


# ---------------------------------------------------------------- refusing to save


def test_saving_checks_what_it_is_given(tmp_path, model):
    def save(tensors, **options):
        hub.save_base(tmp_path / "b", CONFIG, tensors, **{"name": "tiny", **options})

    state = model.frozen_state()
    nan = state | {"base.y_gains.gain": torch.full_like(state["base.y_gains.gain"], torch.nan)}
    big = state | {"base.y_gains.gain": torch.full_like(state["base.y_gains.gain"], 1e6)}
    untrained = MPAModel(CONFIG).frozen_state()
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        save(nan)
    with pytest.raises(CheckpointError, match="beyond the range of float16"):
        save(big, dtype="float16")
    with pytest.raises(CheckpointError, match=r"call model\.update\(\) before saving"):
        save(untrained)
    with pytest.raises(CheckpointError, match=r"unexpected 'paths\.x'"):
        save(state | {"paths.x": torch.ones(1)})
    with pytest.raises(CheckpointError, match="missing"):
        save({})
    with pytest.raises(ConfigError, match="name"):
        save(state, name="")
    assert not (tmp_path / "b").exists()
    save(big)


@pytest.mark.parametrize("failing", ["model.safetensors", "config.json", "README.md"])
def test_a_failure_leaves_the_folder_as_it_was(tmp_path, base, model, monkeypatch, failing):
    (base / "notes.txt").write_text("mine")
    before = contents(base)
    real = Path.replace

    def replace(self, target):
        if Path(target).parent == base and Path(target).name == failing and "kept" not in str(self):
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(write.Path, "replace", replace)
    with pytest.raises(OutputError, match="No space left"):
        hub.save_base(base, CONFIG, model.frozen_state(), name="other")
    monkeypatch.undo()
    assert contents(base) == before
    assert [p.name for p in tmp_path.iterdir()] == ["base"]
    hub.save_base(base, CONFIG, model.frozen_state(), name="other")
    assert hub.load_base(base).name == "other"
    assert (base / "notes.txt").read_text() == "mine"


def test_unwritable_places(tmp_path, model):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError) as error:
            hub.save_base(place, CONFIG, model.frozen_state(), name="tiny")
        one_line(error)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_parents_are_made(tmp_path, model):
    hub.save_base(tmp_path / "a" / "b" / "c", CONFIG, model.frozen_state(), name="tiny")
    assert hub.load_base(tmp_path / "a" / "b" / "c").name == "tiny"
