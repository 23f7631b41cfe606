"""Whole runs of a third party's path: resuming to the bit, refusals, export, the command line."""

from __future__ import annotations

import json
import re
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mpa_core import Mix, MPACodec, checkpoints
from mpa_core.checkpoints.model_cards import (
    checked_results,
    complete_card,
    missing_of,
    read_card,
)
from mpa_core.cli.main import main
from mpa_core.errors import (
    BaseMismatchError,
    CheckpointError,
    ConfigError,
    MPAError,
    OutputError,
    PathNotFoundError,
    TrainingError,
)
from mpa_core.plugins.registry import Plugin, Registry, registry
from mpa_core.training.engine.checkpoint import load_latest
from mpa_core.training.engine.progress import Progress
from mpa_core.training.runs.export import export_run, run_kind
from mpa_core.training.runs.run import Run, train
from mpa_core.training.runs.weights import averaged_path
from mpa_core.training.settings.path import PathTrainConfig, load_path_config


class StopAfter(Progress):
    """Sends this process SIGTERM when the metrics of a step are shown."""

    def __init__(self, step):
        super().__init__(1e9)
        self.step = step

    def update(self, fraction, line):
        super().update(fraction, line)
        if line["step"] == self.step:
            signal.raise_signal(signal.SIGTERM)


def state(folder):
    return load_latest(folder / "checkpoints")


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, few_photos, path_settings):
    """Four steps in one go, validated."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    config = path_settings("edges", "run.validate_samples=true", "run.validate_qualities=[2, 6.5]")
    outcome = train(Run(folder, few_photos, few_photos), config)
    assert (outcome.step, outcome.reason) == (4, "budget")
    return folder


@pytest.fixture(scope="module")
def other_base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases") / "other"
    MPACodec.from_preset("mpa-tiny", seed=1).save_pretrained(folder)
    return folder


def test_resumed_is_the_same_to_the_bit(tmp_path, few_photos, path_settings, finished):
    """From the cache of the first run and without validation: neither makes a difference."""
    run = Run(tmp_path / "run", few_photos)
    config = path_settings("edges", f"cache.dir={finished / 'latents'}")
    outcome = train(run, config, progress=StopAfter(2))
    assert (outcome.step, outcome.reason) == (2, "signal")
    torch.manual_seed(123)  # nothing may hang on the generator's state
    train(run, config, resume=True)
    assert_same_to_the_bit(state(finished), state(run.folder))
    assert not (run.folder / "latents").exists()


def assert_same_to_the_bit(straight, resumed):
    assert resumed.meta["step"] == straight.meta["step"] == 4
    assert resumed.meta["stage"] == straight.meta["stage"]
    assert resumed.tensors.keys() == straight.tensors.keys()
    different = [
        name
        for name, value in straight.tensors.items()
        if not torch.equal(value, resumed.tensors[name])
    ]
    assert different == []


def test_mixed_pictures_are_resumed_to_the_bit(tmp_path, few_photos, path_settings):
    """They are drawn anew at each step, from torch's generator and from NumPy's."""
    for number, photo in enumerate(few_photos.iterdir()):
        (tmp_path / "classes" / str(number)).mkdir(parents=True)
        shutil.copy(photo, tmp_path / "classes" / str(number))
    straight, resumed = (
        Run(tmp_path / name, tmp_path / "classes") for name in ("straight", "resumed")
    )
    config = path_settings(
        "cls", "recipe.label=real", "budget.hours=null", "budget.steps=4", "data.shards=2"
    )
    train(straight, config)
    assert train(resumed, config, progress=StopAfter(2)).step == 2
    torch.manual_seed(123)  # nothing may hang on the generators' states
    np.random.seed(123)
    train(resumed, config, resume=True)
    assert_same_to_the_bit(state(straight.folder), state(resumed.folder))


def test_validation_is_of_the_path_and_the_main_path(finished, few_photos):
    (event,) = [line for line in lines(finished) if line.get("event") == "validation"]
    assert [row["quality"] for row in event["levels"]] == [2.0, 6.5]
    names = {"quality", "bpp", "psnr", "edges", "main_psnr", "main_edges", "pictures"}
    assert all(set(row) == names for row in event["levels"])
    assert event["levels"][0]["bpp"] < event["levels"][1]["bpp"]
    pictures = {file.name for file in finished.glob("samples/*/*.png")}
    assert pictures == {"q2-main.png", "q2-path.png", "q6.5-main.png", "q6.5-path.png"}


def test_an_exported_path_is_the_averaged_one_and_loads_on_its_base(
    tmp_path, finished, path_base, sample
):
    out = tmp_path / "edges"
    fingerprint = export_run(finished, out)
    codec = MPACodec.from_pretrained(path_base)
    assert codec.load_path(out) == "edges"
    loaded = codec.model.paths["edges"]
    wanted = averaged_path(finished, checkpoints.load_base(path_base))
    assert checkpoints.read_path_meta(out).fingerprint == fingerprint
    found = loaded.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in wanted.state_dict().items())
    tensors = state(finished).tensors
    live = {n: v for n, v in found.items() if not torch.equal(v, tensors[f"path.{n}"])}
    assert all(torch.equal(v, tensors[f"average.{n}"]) for n, v in live.items())
    assert live  # the average is not the last step's weights
    picture = sample.crop((0, 0, 70, 60))
    data = codec.encode(picture, 4)
    side = codec.decode(data, Mix(edges=1.0), output="tensor")
    assert side.shape == (3, 60, 70)
    assert not torch.equal(side, codec.decode(data, output="tensor"))


def test_an_exported_path_is_refused_by_another_base(tmp_path, finished, other_base):
    export_run(finished, tmp_path / "edges", dtype="float16")
    with pytest.raises(BaseMismatchError, match="was trained on base 'tiny'"):
        MPACodec.from_pretrained(other_base).load_path(tmp_path / "edges")


def test_the_card_says_how_it_was_trained(tmp_path, finished, edges_plugin):
    export_run(finished, tmp_path / "a", licence="mit")
    card = (tmp_path / "a" / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n")
    assert f'pip install "{edges_plugin}>=1.2.0"' in card
    assert f"`mpa_plugin_edges.recipe:EdgesRecipe` of {edges_plugin} 1.2.0" in card
    assert "Data: 6 samples" in card
    assert "mpa train path edges --base tiny --data PHOTOS --out RUN --steps 4\n" in card
    assert "| quality | bpp | psnr | edges | main_psnr | main_edges | pictures |" in card
    assert str(finished) not in card
    export_run(finished, tmp_path / "a", figures="| mine |\n| --- |")
    card = (tmp_path / "a" / "README.md").read_text()
    assert "| mine |" in card
    assert "main_psnr" not in card


def test_the_hub_reads_the_run_s_validation_from_the_card(
    tmp_path, finished, few_photos, edges_plugin
):
    """huggingface_hub is not needed to write it; completing a card keeps it."""
    export_run(finished, tmp_path / "a", licence="mit")
    meta = checkpoints.read_path_meta(tmp_path / "a")
    card = read_card((tmp_path / "a" / "README.md").read_text())
    (event,) = [line for line in lines(finished) if line.get("event") == "validation"]
    facts = state(finished).meta["validation"]
    assert facts["data"] == few_photos.name
    wanted = []
    for row in event["levels"]:
        for name, label in (("psnr", "PSNR (dB)"), ("edges", "edges")):
            wanted.append((row["quality"], row["bpp"], name, label, row[name]))
    for text in (str(card), complete_card(str(card), meta, repo_id="lab/edges")):
        results = read_card(text).data.eval_results
        found = [
            (r.metric_args["quality"], r.metric_args["bpp"], r.metric_type, r.metric_name,
             r.metric_value)
            for r in results
        ]  # fmt: skip
        assert [each[:1] + each[2:4] for each in found] == [w[:1] + w[2:4] for w in wanted]
        assert [each[1] for each in found] == pytest.approx([w[1] for w in wanted], rel=1e-5)
        assert [each[4] for each in found] == pytest.approx([w[4] for w in wanted], rel=1e-5)
        for result in results:
            assert result.dataset_name == f"{few_photos.name} ({facts['digest']})"
            assert result.dataset_split == "validation"
            assert result.dataset_args == {"pictures": event["levels"][0]["pictures"]}
            assert result.metric_args["bits"] == "estimated"
        assert not any("figures" in each for each in missing_of(read_card(text)))
        assert str(few_photos.parent) not in text
    assert checked_results(results) == results


def test_figures_that_are_not_of_the_weights_are_no_figures_of_the_hub(tmp_path, finished):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (event,) = [line for line in lines(run) if line.get("event") == "validation"]
    older = {**event, "step": event["step"] - 1}
    (run / "metrics.jsonl").write_text(json.dumps(older) + "\n")
    export_run(run, tmp_path / "older")
    card = (tmp_path / "older" / "README.md").read_text()
    assert f"at step {older['step']}" in card
    assert read_card(card).data.eval_results is None
    export_run(finished, tmp_path / "mine", figures="| mine |\n| --- |")
    assert "model-index" not in (tmp_path / "mine" / "README.md").read_text()


def test_a_new_run_begins_with_the_weights_of_another(
    tmp_path, few_photos, path_settings, finished, path_base
):
    export_run(finished, tmp_path / "edges")
    for source in (finished, tmp_path / "edges"):
        run = Run(tmp_path / f"from-{source.name}", few_photos, start_from=str(source))
        train(run, path_settings("edges", "optim.lr=1e-30", "budget.steps=1"))
        begun = averaged_path(run.folder, checkpoints.load_base(path_base)).named_parameters()
        wanted = averaged_path(finished, checkpoints.load_base(path_base))
        assert all(torch.equal(v, wanted.get_parameter(name)) for name, v in begun)
        assert state(run.folder).meta["start_from"] == source.name
        export_run(run.folder, tmp_path / "card")
        card = (tmp_path / "card" / "README.md").read_text()
        assert f"--out RUN --steps 1 --from {source.name} " in card
    with pytest.raises(PathNotFoundError, match="no weights for base 'tiny'"):
        train(Run(tmp_path / "none", few_photos, start_from="edges"), path_settings("edges"))
    empty = Run(tmp_path / "none", few_photos, start_from=str(tmp_path / "card" / ".."))
    with pytest.raises(CheckpointError, match=r"has no path_config\.json, expected a path"):
        train(empty, path_settings("edges"))
    wide = path_settings("edges", "path.hidden_ratio=1")
    with pytest.raises(CheckpointError, match="path to start from does not fit"):
        train(Run(tmp_path / "wide", few_photos, start_from=str(finished)), wide)


def test_a_path_that_begins_as_the_main_one_trains(tmp_path, few_photos, path_settings):
    run = Run(tmp_path / "run", few_photos)
    train(run, path_settings("mse", "budget.steps=1", "loss.full_share=1", "optim.lr=1e-30"))
    line = next(line for line in lines(run.folder) if "loss" in line)
    assert line["task"] == 0.0
    assert list((run.folder / "latents").rglob("*.latents"))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.crop=72"], "data.crop 72 is not a multiple of 64"),
        (["loss.rate_lambdas=[1, 2]"], "2 loss.rate_lambdas for the 8 quality levels"),
        (["recipe.strenght=1"], "strenght"),
        (["path.dropped=1"], "dropped"),
        (["init.mlp=main"], "builds Sequential"),
    ],
)
def test_settings_that_do_not_fit(tmp_path, few_photos, path_settings, overrides, words):
    with pytest.raises(ConfigError, match=words):
        train(Run(tmp_path / "run", few_photos), path_settings("edges", *overrides))


def test_runs_that_cannot_start_or_go_on(tmp_path, few_photos, path_settings, finished, other_base):
    run = Run(finished, few_photos)
    with pytest.raises(OutputError, match="checkpoints already exists and was left as it is"):
        train(run, path_settings("edges"))
    with pytest.raises(TrainingError, match="budget is already spent"):
        train(run, path_settings("edges"), resume=True)
    with pytest.raises(TrainingError, match=r"other settings for recipe\.strength;"):
        train(run, path_settings("edges", "recipe.strength=1"), resume=True)
    with pytest.raises(BaseMismatchError, match="trained on base 'tiny'"):
        train(run, path_settings("edges", f"base={other_base}", "budget.steps=9"), resume=True)
    with pytest.raises(BaseMismatchError, match="give that base with --base"):
        export_run(finished, tmp_path / "out", base=str(other_base))
    with pytest.raises(CheckpointError, match="is no run, expected the folder of a run"):
        run_kind(tmp_path)


def test_foreign_code_that_writes_to_the_base_is_found_out(
    tmp_path, few_photos, path_settings, monkeypatch
):
    from mpa_core.training.objectives.path import PathObjective

    step = PathObjective.shard_step

    def careless(self, *args):
        self.model.base.y_gains.gain.data.add_(1e-3)
        return step(self, *args)

    monkeypatch.setattr(PathObjective, "shard_step", careless)
    with pytest.raises(TrainingError, match="the base changed during training"):
        train(Run(tmp_path / "run", few_photos), path_settings("edges", "budget.steps=1"))


def test_from_the_command_line(tmp_path, few_photos, path_base, capsys):
    run, out = tmp_path / "run", tmp_path / "out"
    (tmp_path / "settings.yaml").write_text("loss: {full_share: 0.5}\n")
    common = ["--data", str(few_photos), "--out", str(run), "--format", "json"]
    start = ["--base", str(path_base), "--config", str(tmp_path / "settings.yaml"),
             "--cache", str(tmp_path / "cache"), "--steps", "1", "--threads", "1",
             "--set", "run.log_every=1"]  # fmt: skip
    assert main(["train", "path", "edges", *start, *common]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 1
    assert main(["train", "path", "edges", "--resume", "--steps", "2", *common]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 2
    config = PathTrainConfig.parse(state(run).meta["config"], source="run")
    assert (config.loss.full_share, config.budget.steps, config.data.crop) == (0.5, 2, 64)
    assert list((tmp_path / "cache").rglob("*.latents"))
    figures = tmp_path / "figures.md"
    figures.write_text("Better than before.\n")
    export = ["train", "export", str(run), str(out), "--format", "json"]
    assert main([*export, "--dtype", "float16", "--figures", str(figures)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["path"] == str(out)
    assert answer["fingerprint"] == checkpoints.read_path_meta(out).fingerprint
    assert "Better than before." in (out / "README.md").read_text()
    assert "--set loss.full_share=0.5" in (out / "README.md").read_text()
    assert main(export) == 1  # never overwrites without --force
    assert "already exists" in capsys.readouterr().err
    assert main([*export, "--force", "--figures", str(tmp_path / "none.md")]) == 2


@hypothesis_settings(max_examples=100, deadline=None)
@given(
    overrides=st.lists(
        st.tuples(
            st.sampled_from(
                ["path", "recipe", "loss", "loss.full_share", "cache", "run.x", "name"]
            ),
            st.text(max_size=12),
        ).map("=".join)
        | st.text(max_size=20),
        max_size=3,
    )
)
def test_any_settings_are_read_or_refused_in_our_words(overrides):
    try:
        config = load_path_config("edges", "tiny", None, overrides, defaults={"seed": 3})
    except MPAError:
        return
    again = PathTrainConfig.parse(config.model_dump(mode="json"), source="itself")
    assert repr(again) == repr(config)


def test_a_run_means_its_plugin_whatever_is_installed_later(
    finished, path_base, tmp_path, monkeypatch
):
    """Another distribution that claims the name does not keep it from being exported."""
    assert state(finished).meta["config"]["name"] == "mpa-plugin-edges:edges"
    own = registry()
    stranger = replace(own.get("edges"), distribution="mpa-stranger")
    both = Registry((*own.plugins, Plugin("s", "s", "mpa-stranger", "1", (stranger,))))
    monkeypatch.setattr("mpa_core.plugins.registry._discover", lambda: both)
    with pytest.raises(PathNotFoundError, match="claimed by"):
        registry().get("edges")
    export_run(finished, tmp_path / "out", base=str(path_base))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "mpa train path mpa-plugin-edges:edges" in card


def test_a_run_without_a_step_is_not_exported(few_photos, path_settings, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(
            Run(tmp_path / "run", few_photos),
            path_settings("edges"),
            progress=_Interrupts(1e9),
        )
    with pytest.raises(TrainingError, match="made no step, so nothing was learned; go on"):
        export_run(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("strength", ["nan", "inf"])
def test_a_first_loss_that_is_no_number_ends_the_run_before_it_begins(
    few_photos, path_settings, tmp_path, strength
):
    config = path_settings("edges", f"recipe.strength=.{strength}")
    with pytest.raises(TrainingError) as error:
        train(Run(tmp_path / "run", few_photos), config, progress=Progress(1e9))
    assert re.search(
        rf"^recipe of 'edges' \(mpa-plugin-edges 1\.2\.0\): the loss of the first sample is "
        rf"{strength}, .* mpa plugins check mpa-plugin-edges:edges --train$",
        str(error.value),
    )
    assert not list((tmp_path / "run").glob("checkpoints/*"))


def test_a_run_that_skipped_each_step_is_not_exported(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    (newest,) = sorted(run.glob("checkpoints/step-*"))[-1:]
    state = json.loads((newest / "state.json").read_text("utf-8"))
    state["meta"]["bad_steps"] = state["step"]
    (newest / "state.json").write_text(json.dumps(state), "utf-8")
    with pytest.raises(TrainingError, match="had a finite loss and gradient, so nothing was"):
        export_run(run, tmp_path / "out")


class _Interrupts(Progress):
    """Ends the run when its first checkpoint is written and no step is made."""

    def __enter__(self):
        raise KeyboardInterrupt


def test_the_folder_of_a_run_is_told_from_that_of_a_path(finished, path_base):
    codec = MPACodec.from_pretrained(path_base)
    said = f"{finished} is the folder of a training run, expected a path folder .*export {finished}"
    with pytest.raises(CheckpointError, match=said):
        codec.load_path(finished)
    with pytest.raises(CheckpointError, match="is the folder of a training run, expected a base"):
        MPACodec.from_pretrained(finished)
