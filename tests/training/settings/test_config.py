from __future__ import annotations

import pytest

from mpa_core.base.tinylic.presets import PRESETS
from mpa_core.errors import ConfigError
from mpa_core.training.settings.base import TrainConfig, load_config
from mpa_core.training.settings.trees import (
    changed_keys,
    is_below,
    override,
    read_tree,
    save_config,
)


def test_defaults_are_the_published_constants():
    config = load_config(None, ["model=mpa-base"])
    assert config.model == PRESETS["mpa-base"]
    assert config.loss.rate_lambdas == (18.0, 9.32, 4.83, 2.5, 1.3, 0.67, 0.35, 0.18)
    assert (config.loss.distortion_scale, config.loss.ratio_weight) == (100.0, 10.0)
    assert (config.loss.perceptual, config.loss.perceptual_weight) == ("lpips", 4.26)
    assert config.loss.perceptual_shift == 15
    assert (config.loss.quality_sampling, config.loss.quality_values) == ("per_step", "integer")
    assert (config.data.crop, config.data.batch) == (256, 8)
    assert (config.optim.lr, config.optim.aux_lr, config.optim.clip) == (1e-4, 1e-3, 1.0)
    assert (config.schedule.kind, config.schedule.milestones) == ("milestones", (0.75,))
    assert (config.schedule.gamma, config.budget.epochs) == (0.1, 400.0)


def test_the_settings_of_the_bundled_base_are_valid(root):
    files = sorted((root / "examples" / "configs").glob("mpa-small*.yaml"))
    assert {"mpa-small", "mpa-small-gpu", "mpa-small-start"} <= {file.stem for file in files}
    for file in files:
        config = load_config(file)
        assert config.model == PRESETS["mpa-small"]
        assert config.budget.hours is not None


def test_file_then_command_line(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("model: mpa-tiny\ndata: {crop: 128}\noptim: {lr: 2.0e-4}\n")
    config = load_config(path, ["optim.lr=3e-4", "optim.lr_factors={'*gain': 5}"])
    assert config.model == PRESETS["mpa-tiny"]
    assert (config.data.crop, config.data.batch, config.optim.lr) == (128, 8, 3e-4)
    assert config.optim.lr_factors == {"*gain": 5.0}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("012", 12),
        ("0o17", 15),
        ("1:30", "1:30"),
        ("true", True),
        ("~", None),
        ("{'*gain*': [5, x]}", {"*gain*": [5, "x"]}),
    ],
)
def test_values_are_yaml_1_2(tmp_path, text, value):
    """YAML 1.1 reads the first three as truth values, then a text, a 10, and 90."""
    path = tmp_path / "run.yaml"
    path.write_text(f"a: {text}\n")
    for found in (read_tree(path)["a"], override({}, f"a={text}")["a"]):
        assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "text", ["[", "a: b: c", "!!int x", "!!bool maybe", "!!python/name:os.system", "*a", "<<", "=",
             "{a: 1, a: 2}", "\0", "[" * 9999],
)  # fmt: skip
def test_text_that_is_no_value_is_refused_in_one_line(text):
    with pytest.raises(ConfigError, match=r"^--set a=.*: not valid YAML: ") as error:
        override({}, f"a={text}")
    assert "\n" not in str(error.value)


def test_a_bare_no_is_a_precision(tmp_path, settings):
    path = tmp_path / "run.yaml"
    path.write_text("model: mpa-tiny\nrun: {mixed_precision: no}\noptim: {lr: 1e-3}\n")
    config = load_config(path)
    assert (config.run.mixed_precision, config.optim.lr) == ("no", 1e-3)
    save_config(config, tmp_path / "again.yaml")
    assert load_config(tmp_path / "again.yaml") == config


def test_saved_settings_read_back_the_same(tmp_path, settings):
    config = settings("budget.hours=1.5")
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


def test_one_budget_displaces_the_default():
    config = load_config(None, ["model=mpa-tiny", "budget.hours=2"])
    assert (config.budget.epochs, config.budget.hours) == (None, 2.0)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=mpa-huge"], "mpa-huge"),
        (["model=mpa-tiny", "optim.learning_rate=1"], "optim.learning_rate"),
        (["model=mpa-tiny", "data.crop=100"], "take 128"),
        (["model=mpa-tiny", "data.crop"], "key=value"),
        (["model=mpa-tiny", "optim.lr=["], "not valid YAML"),
        (["model=mpa-tiny", "optim.lr=nan"], "optim.lr"),
        (["model=mpa-tiny", "loss.rate_lambdas=[1, 2]"], "2 rate_lambdas for 8"),
        (["model=mpa-tiny", "schedule.kind=trapezoid", "schedule.decay_from=1"], "decay_from"),
        (["model=mpa-tiny", "schedule.warmup=1"], "warm-up"),
        ([], "model"),
    ],
)
def test_wrong_settings_are_named(overrides, words):
    with pytest.raises(ConfigError, match=r".") as error:
        load_config(None, overrides)
    assert words in str(error.value)


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "a: [", None])
def test_unusable_file(tmp_path, text):
    path = tmp_path / "run.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        load_config(path)


def test_what_may_change_on_resuming(settings):
    old = settings()
    new = settings("optim.lr=1", "budget.steps=9", "data.crop=128", "loss.perceptual_from=0.5")
    changed = changed_keys(old, new)
    assert changed == ["budget.steps", "data.crop", "loss.perceptual_from", "optim.lr"]
    assert [key for key in changed if is_below(key, TrainConfig.fixed)] == ["data.crop"]
