"""A base that is not TinyLIC, from an installed plugin: trained, saved, loaded, coded, decoded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from second_base.plugin_source import DISTRIBUTION

from mpa_core import MPACodec, TaskPath, checkpoints
from mpa_core.cli.main import main
from mpa_core.conversion import convert_base
from mpa_core.errors import (
    BaseMismatchError,
    CheckpointError,
    ConfigError,
    PluginError,
    QualityError,
)
from mpa_core.plugins.registry import registry
from mpa_core.training.runs.export import export_run
from mpa_core.training.runs.run import Run, train
from mpa_core.training.settings.base import TrainConfig, load_config

TYPE = f"{DISTRIBUTION}:plain"

SETTINGS = (
    "data.crop=32",
    "data.batch=2",
    "loss.rate_lambdas=[18.0, 1.8, 0.18]",
    "loss.perceptual=null",
    "init.y_gain=[1.0, 8.0]",
    "optim.lr=1e-3",
    "budget.epochs=null",
    "budget.steps=3",
    "run.threads=1",
)


def settings(*overrides: str) -> TrainConfig:
    return load_config(None, [*SETTINGS, *overrides], base={"model": "plain-tiny"})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """A base folder, after three steps of training."""
    run = tmp_path_factory.mktemp("runs") / "run"
    assert train(Run(run, photos, photos), settings()).step == 3
    folder = run.parent / "plain"
    export_run(run, folder)
    return folder


@pytest.fixture
def codec(trained: Path) -> MPACodec:
    return MPACodec.from_pretrained(trained)


def test_a_picture_is_coded_to_a_file_and_decoded_by_a_path(
    codec: MPACodec, sample: Image.Image, tmp_path: Path
):
    file = tmp_path / "photo.mpa"
    file.write_bytes(codec.encode(sample, quality=2.5, profile="float"))
    plain = codec.decode(file.read_bytes(), output="tensor")
    assert plain.shape == (3, sample.height, sample.width)
    with torch.no_grad():  # what the streams say, by the model itself
        x = torch.nn.functional.pad(
            codec_input(sample), (0, -sample.width % 8, 0, -sample.height % 8), mode="replicate"
        )
        own = codec.model(x, 2.5)["x_hat"][0, :, : sample.height, : sample.width].clamp(0, 1)
    assert torch.allclose(plain, own, atol=1e-4)

    stages = codec.model.config.decoder_path_stages
    path = registry().load_class("bright")(stages, levels=3)
    for parameter in path.parameters():
        torch.nn.init.constant_(parameter, 0.1)
    checkpoints.save_path(
        tmp_path / "bright", path, base_name=codec.name, base_fingerprint=codec.fingerprint
    )
    codec.attach_path(path)
    seen = codec.decode(file.read_bytes(), "bright", output="tensor")
    half = codec.decode(file.read_bytes(), {"bright": 0.5}, output="tensor")
    assert not torch.equal(seen, plain)
    assert (half != plain).float().mean() > 0 and not torch.equal(half, seen)


def codec_input(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255


def test_bits_estimated_are_those_of_the_file(codec: MPACodec, sample: Image.Image):
    picture = sample.crop((0, 0, 128, 128))
    with torch.no_grad():
        likelihoods = codec.model(codec_input(picture), 3.0)["likelihoods"]
    bits = sum(-each.double().log2().sum() for each in likelihoods.values())
    streams = codec.open(codec.encode(picture, quality=3, profile="float")).file.container
    coded = 8 * sum(map(len, streams.streams))
    assert abs(coded - bits) < 0.01 * bits + 160


def test_the_checkpoint_states_the_type_and_has_no_exact_profile(trained: Path, codec: MPACodec):
    stated = json.loads((trained / "config.json").read_text())
    assert stated["architecture"] == {
        "type": TYPE,
        "width": 12,
        "quality_levels": 3,
        "encoder_hidden_ratio": 0.5,
    }
    assert stated["exact"] is None and not (trained / "exact.safetensors").exists()
    assert "Width: 12" in (trained / "README.md").read_text()
    status = codec.status()
    assert (status["exact_fingerprint"], status["quality_levels"]) == (None, 3)
    assert all(not name.startswith("encoder_path") for name in codec.model.state_dict())


def test_saved_and_loaded_it_is_the_same_base(codec: MPACodec, tmp_path: Path):
    codec.save_pretrained(tmp_path / "again")
    again = MPACodec.from_pretrained(tmp_path / "again")
    assert again.fingerprint == codec.fingerprint
    assert again.model.config == codec.model.config


def test_random_weights_of_a_preset(sample: Image.Image):
    codec = MPACodec.from_preset("plain-tiny", seed=3)
    assert codec.fingerprint == MPACodec.from_preset("plain-tiny", seed=3).fingerprint
    assert codec.fingerprint != MPACodec.from_preset("plain-tiny", seed=4).fingerprint
    assert codec.decode(codec.encode(sample, 1, profile="float")).size == sample.size


# ------------------------------------------------------------------ what it lacks


def test_the_exact_profile_is_refused(codec: MPACodec, sample: Image.Image, trained: Path):
    said = (
        f"a base of type '{TYPE}' has no exact entropy profile; code with profile='float' "
        "(--profile float)"
    )
    with pytest.raises(ConfigError) as refused:
        codec.encode(sample, quality=2)
    assert str(refused.value) == said
    with pytest.raises(ConfigError) as refused:
        convert_base(trained, trained.parent / "never")
    assert str(refused.value) == said
    with pytest.raises(ConfigError, match="has no exact entropy profile"):
        MPACodec(codec.model, name="it", formats={})
    tiny = MPACodec.from_preset("mpa-tiny")
    with pytest.raises(BaseMismatchError, match=r"'plain' \(which has no exact profile\)"):
        codec.decode(tiny.encode(sample.crop((0, 0, 64, 64)), 2))


def test_levels_are_its_own(codec: MPACodec, sample: Image.Image):
    with pytest.raises(QualityError, match=r"quality is 4, expected 1 .* to 3"):
        codec.encode(sample, quality=4, profile="float")
    data = codec.encode(sample.crop((0, 0, 64, 64)), quality=3, profile="float")
    assert codec.open(data).quality == 3


@pytest.mark.parametrize("levels", [1, 9])
def test_levels_that_no_file_can_say_are_refused_where_a_base_is_made(levels: int):
    with pytest.raises(ConfigError, match=f"{levels} quality levels; .* give the base 2 to 8"):
        settings(f"model.quality_levels={levels}")


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("init.transform=klt", "no start from photos; set init.transform=random"),
        ("init.block_rescale=20", "no rescaling of its blocks; set init.block_rescale=1"),
    ],
)
def test_a_start_that_only_others_have_is_refused(
    override: str, problem: str, photos: Path, tmp_path: Path
):
    with pytest.raises(ConfigError) as refused:
        train(Run(tmp_path / "run", photos), settings(override))
    assert str(refused.value) == f"a base of type '{TYPE}' has {problem}"


# ------------------------------------------------------------------ the plugin


def test_without_the_plugin_the_error_says_where_it_comes_from(
    trained: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setenv("MPA_PLUGINS", "")
        registry(refresh=True)
        with pytest.raises(PluginError) as refused:
            MPACodec.from_pretrained(trained)
        with pytest.raises(ConfigError, match="no preset 'plain-tiny'; choose one of mpa-base"):
            MPACodec.from_preset("plain-tiny")
        assert MPACodec.from_preset("mpa-tiny").model.config.type == "tinylic"
    registry(refresh=True)
    assert str(refused.value) == (
        f"{trained / 'config.json'}: base type '{TYPE}' is of no plugin that is installed (known: "
        "tinylic); "
        f"run: pip install --upgrade {DISTRIBUTION}"
    )


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("width", -1, "architecture.width: Input should be greater than 0, found -1"),
        ("depth", 1, "architecture.depth: there is no such key"),
        ("type", 7, "architecture: type is 7"),
        ("width", 400, "the architecture in its config.json takes"),
    ],
)
def test_an_architecture_that_is_wrong(
    key: str, value: int, problem: str, trained: Path, tmp_path: Path
):
    for file in trained.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    stated = json.loads((tmp_path / "config.json").read_text())
    stated["architecture"][key] = value
    (tmp_path / "config.json").write_text(json.dumps(stated))
    with pytest.raises(CheckpointError, match=problem):
        MPACodec.from_pretrained(tmp_path)


def test_the_command_line_lists_and_checks_it(capsys: pytest.CaptureFixture[str]):
    assert main(["plugins", "ls", "--format", "json"]) == 0
    found = {each["plugin"]: each for each in json.loads(capsys.readouterr().out)}
    assert (found["plain"]["bases"], found["plain"]["paths"]) == (["plain"], ["bright"])
    assert main(["plugins", "check", "plain"]) == 0
    assert "bases: plain" in capsys.readouterr().out
    assert main(["env", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["plugins"]["plain"].endswith("bright, plain")


def test_the_command_line_trains_codes_and_decodes_it(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run, base = str(tmp_path / "run"), str(tmp_path / "base")
    changed = [part for each in SETTINGS[:6] for part in ("--set", each)]
    train = ["train", "base", "--preset", "plain-tiny", "--data", str(photos), "--out", run]
    assert main([*train, "--steps", "2", *changed]) == 0
    assert main(["train", "export", run, base]) == 0
    piece, coded, out = (
        str(photos / "piece-0.png"),
        str(tmp_path / "p.mpa"),
        str(tmp_path / "p.png"),
    )
    encode = ["encode", piece, "-o", coded, "--base", base, "--quality", "2"]
    assert main([*encode, "--profile", "float"]) == 0
    assert main(["decode", coded, "-o", out, "--base", base]) == 0
    with Image.open(out) as decoded:
        assert decoded.size == (96, 80)
    capsys.readouterr()
    assert main([*encode, "--force"]) == 1
    assert capsys.readouterr().err.count("has no exact entropy profile") == 1


def test_a_path_is_of_its_stages(codec: MPACodec):
    class Elsewhere(TaskPath):
        name = "elsewhere"

    with pytest.raises(ConfigError, match="this base offers 0: 12 x 2"):
        codec.attach_path(
            Elsewhere(MPACodec.from_preset("mpa-tiny").model.config.decoder_path_stages)
        )


def test_a_path_is_trained_on_it(
    trained: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run, out = str(tmp_path / "run"), str(tmp_path / "path")
    changed = [*SETTINGS[:4], "data.crops_per_photo=2", "cache.limit_gib=0", "init.mlp=random"]
    train = ["train", "path", "mse", "--base", str(trained), "--data", str(photos), "--out", run]
    train += ["--steps", "2", *(part for each in changed for part in ("--set", each))]
    assert main([*train, "--set", "init.mlp=main"]) == 1
    assert (
        "has no MLPs that a path could start from; set init.mlp=random" in capsys.readouterr().err
    )
    assert main(train) == 0
    assert main(["train", "export", run, out]) == 0
    codec = MPACodec.from_pretrained(trained)
    assert codec.load_path(out) == "mse"
    with Image.open(photos / "piece-0.png") as piece:
        data = codec.encode(piece, quality=2, profile="float")
    assert codec.decode(data, "mse").size == (96, 80)
