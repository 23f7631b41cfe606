"""Whole runs of the smallest model: resuming to the bit, refusals, export."""

from __future__ import annotations

import json
import multiprocessing
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from mpa_core import MPACodec
from mpa_core.cli.main import main
from mpa_core.errors import CheckpointError, OutputError, TrainingError
from mpa_core.training.engine.checkpoint import load_latest, save_state
from mpa_core.training.engine.optim import lr_factor_of
from mpa_core.training.engine.progress import Progress
from mpa_core.training.runs.export import export_run
from mpa_core.training.runs.folder import stored_config
from mpa_core.training.runs.run import Run, train
from mpa_core.training.runs.weights import averaged_model
from mpa_core.training.settings.base import TrainConfig


class At(Progress):
    """Does something when a step's metrics are shown."""

    def __init__(self, step, action):
        super().__init__(1e9)
        self.step, self.action = step, action

    def update(self, fraction, line):
        super().update(fraction, line)
        if line["step"] == self.step:
            self.action()


def fail():
    raise RuntimeError("pulled the plug")


def state(folder):
    return load_latest(folder / "checkpoints")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, photo_folder, settings):
    """Six steps in one go."""
    run = Run(tmp_path_factory.mktemp("straight") / "run", photo_folder, photo_folder)
    train(run, settings("run.validate_images=1", "run.validate_samples=true"))
    return run.folder


@pytest.mark.parametrize("ending", ["signal", "crash"])
def test_resumed_is_the_same_to_the_bit(tmp_path, photo_folder, settings, finished, ending):
    run = Run(tmp_path / "run", photo_folder)
    config = settings("run.validate_images=1", "run.validate_samples=true")
    if ending == "signal":
        stop = At(3, lambda: signal.raise_signal(signal.SIGTERM))
        outcome = train(run, config, progress=stop)
        assert (outcome.step, outcome.reason) == (3, "signal")
    else:
        with pytest.raises(RuntimeError, match="plug"):
            train(run, config, progress=At(4, fail))
        assert state(run.folder).meta["step"] == 3
    torch.manual_seed(123)  # nothing may hang on the generator's state
    train(run, config, resume=True)
    straight, resumed = state(finished), state(run.folder)
    assert resumed.meta["step"] == 6
    assert resumed.meta["stage"] == straight.meta["stage"]
    assert resumed.tensors.keys() == straight.tensors.keys()
    different = [
        name
        for name, value in straight.tensors.items()
        if not torch.equal(value, resumed.tensors[name])
    ]
    assert different == []


def test_every_part_of_the_state_moves(finished, tmp_path, photo_folder, settings):
    """Averages, both optimisers and the weights all change: none is left out of the comparison."""
    run = Run(tmp_path / "run", photo_folder)
    train(run, settings("budget.steps=1"))
    first, last = state(run.folder).tensors, state(finished).tensors
    for prefix in ("model.base.g_a", "model.encoder_path", "average.", "adam.exp_avg_sq",
                   "aux.exp_avg", "model.base.entropy"):  # fmt: skip
        names = [name for name in first if name.startswith(prefix)]
        assert any(not torch.equal(first[name], last[name]) for name in names), prefix
    quantiles = next(name for name in first if name.endswith("quantiles"))
    assert not torch.equal(first[quantiles], last[quantiles])


def test_metrics_and_samples(finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
    assert all(line["grad_norm"] > 0 and line["step_seconds"] > 0 for line in steps)
    [validation] = [line for line in lines if line.get("event") == "validation"]
    assert [row["quality"] for row in validation["levels"]] == list(range(1, 9))
    assert all(row["bpp"] > 0 for row in validation["levels"])
    samples = sorted(p.name for p in (finished / "samples" / "step-00000006").iterdir())
    assert samples == [f"q{level}.png" for level in range(1, 9)]
    assert state(finished).meta["elapsed"] > 0


def test_refusals_on_resuming(finished, photo_folder, settings, tmp_path):
    run = Run(finished, photo_folder)
    with pytest.raises(OutputError, match="go on from it with --resume"):
        train(run, settings())
    other = settings("model.mlp_ratio=1", "data.batch=3", "optim.lr=1")
    with pytest.raises(TrainingError, match=r"settings for data\.batch, model\.mlp_ratio;"):
        train(run, other, resume=True)
    with pytest.raises(TrainingError, match="budget is already spent"):
        train(run, settings(), resume=True)
    with pytest.raises(CheckpointError, match="new does not exist, expected the folder"):
        train(Run(tmp_path / "new", photo_folder), settings(), resume=True)


def test_going_on_with_a_larger_budget(tmp_path, photo_folder, settings):
    run = Run(tmp_path / "run", photo_folder)
    train(run, settings("budget.steps=2"))
    outcome = train(run, settings("budget.steps=4", "optim.lr=5e-5"), resume=True)
    assert outcome.step == 4
    assert stored_config(run.folder)["budget"]["steps"] == 4


def test_a_diverging_run_ends_with_its_last_good_state(tmp_path, photo_folder, settings):
    run = Run(tmp_path / "run", photo_folder)
    wild = settings("optim.lr=1e30", "schedule.warmup=0", "budget.steps=50", "run.max_bad_steps=3")
    with pytest.raises(TrainingError, match="no finite loss and gradient"):
        train(run, wild)
    assert state(run.folder).meta["step"] < 50


def test_training_learns(tmp_path, photo_folder, settings):
    run = Run(tmp_path / "run", photo_folder)
    train(run, settings("optim.lr=1e-3", "budget.steps=60", "run.checkpoint_minutes=9"))
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    loss = [line["loss"] for line in lines if "loss" in line]
    assert sum(loss[-10:]) < 0.6 * sum(loss[:10])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_export_is_a_codec_with_the_averaged_weights(finished, tmp_path, sample, dtype):
    fingerprint = export_run(finished, tmp_path / "base", name="trained", dtype=dtype)
    codec = MPACodec.from_pretrained(tmp_path / "base")
    assert (codec.fingerprint, codec.name) == (fingerprint, "trained")
    tensors = state(finished).tensors
    name = "base.g_a.stages.0.conv.weight"
    found = codec.model.state_dict()[name]
    torch.testing.assert_close(found, tensors[f"average.{name}"], atol=1e-3, rtol=1e-3)
    assert not torch.equal(tensors[f"average.{name}"], tensors[f"model.{name}"])
    picture = sample.crop((0, 0, 70, 50))
    assert codec.decode(codec.encode(picture, quality=4.5)).size == picture.size


def test_settled_quantiles_bracket_the_density(finished):
    prior = averaged_model(finished).base.entropy.z_prior
    with torch.no_grad():
        logits = prior.logits(prior.quantiles, fixed=True)
    torch.testing.assert_close(logits, prior.target.expand_as(logits), atol=0.3, rtol=0.05)


def test_first_matching_pattern_scales_the_rate():
    factors = {"base.y_gains.*": 5.0, "*gain*": 2.0}
    assert lr_factor_of("base.y_gains.gain", factors) == 5.0
    assert lr_factor_of("base.z_gains.gain", factors) == 2.0
    assert lr_factor_of("base.g_a.stages.0.conv.weight", factors) == 1.0


def test_command_line(tmp_path, photo_folder, capsys):
    config = tmp_path / "run.yaml"
    config.write_text(
        "model: mpa-tiny\ndata: {crop: 64, batch: 1}\nloss: {perceptual: null}\n"
        "run: {validate_images: 1}\n"
    )
    out = tmp_path / "run"
    args = ["train", "base", "--config", str(config), "--data", str(photo_folder)]
    args += ["--out", str(out), "--threads", "1", "--format", "json"]
    assert main([*args, "--steps", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 1
    again = ["train", "base", "--resume", "--data", str(photo_folder), "--out", str(out)]
    assert main([*again, "--steps", "2"]) == 0
    assert "2 steps" in capsys.readouterr().out
    assert TrainConfig.parse(stored_config(out), source="run").run.threads == 1
    base = str(tmp_path / "base")
    assert main(["train", "export", str(out), base, "--name", "mine"]) == 0
    assert main(["train", "export", str(out), base]) == 1
    assert "--force" in capsys.readouterr().err
    assert main(["train", "export", str(out), base, "--force", "--dtype", "float16"]) == 0
    assert main([*args, "--set", "optim.speed=9"]) == 1
    assert "optim.speed" in capsys.readouterr().err
    assert main(["train", "base", "--data", str(photo_folder), "--out", str(tmp_path / "x")]) == 2


def test_sigterm_from_outside(tmp_path, photo_folder):
    """A real process, killed the way a batch system does it, ends well and can go on."""
    out = tmp_path / "run"
    args = [sys.executable, "-m", "mpa_core.cli", "train", "base", "--data", str(photo_folder),
            "--out", str(out), "--preset", "mpa-tiny", "--steps", "1000", "--threads", "1",
            "--set", "data.crop=64", "--set", "data.batch=1", "--set", "loss.perceptual=null",
            "--set", "run.log_every=1"]  # fmt: skip
    metrics = out / "metrics.jsonl"
    deadline = time.monotonic() + 300
    with subprocess.Popen(args, stdout=subprocess.PIPE, text=True) as process:
        try:
            while not (metrics.exists() and '"step": 2' in metrics.read_text()):
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            text, _ = process.communicate(timeout=300)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "stopped by a signal" in text
    assert 2 <= state(out).meta["step"] < 1000


def test_new_run_from_another_ones_weights(finished, tmp_path, photo_folder, settings):
    run = Run(tmp_path / "run", photo_folder, start_from=str(finished))
    train(run, settings("budget.steps=1", "optim.lr=1e-12", "optim.lr_factors={}"))
    before, after = state(finished).tensors, state(run.folder).tensors
    for name, value in before.items():
        if name.startswith("average."):
            torch.testing.assert_close(after[name], value, atol=1e-6, rtol=0)
    export_run(finished, tmp_path / "base")
    other = Run(tmp_path / "other", photo_folder, start_from=str(tmp_path / "base"))
    with pytest.raises(TrainingError, match="another architecture"):
        train(other, settings("model.mlp_ratio=1"))


def test_samples_below_the_photos_are_no_photos(tmp_path, photo_folder, capsys):
    data, config = tmp_path / "photos", tmp_path / "run.yaml"
    shutil.copytree(photo_folder, data)
    config.write_text(
        "model: mpa-tiny\ndata: {crop: 64, batch: 1}\nloss: {perceptual: null}\n"
        "run: {validate_images: 1, validate_samples: true}\n"
    )
    words = ["--data", str(data), "--val", str(data), "--threads", "1", "--format", "json"]
    first = ["--config", str(config), "--steps", "1"]
    for out, more in (("one", first), ("one", ["--resume", "--steps", "2"]), ("two", first)):
        assert main(["train", "base", *words, "--out", str(data / out), *more]) == 0
        said = capsys.readouterr()
        meta = load_latest(data / out / "checkpoints").meta
        assert meta["photos"].startswith("5 photos")
    assert list((data / "one" / "samples").rglob("*.png"))
    assert json.loads(said.out)["left_out_by_reason"] == {"folders of mpa's output": 2}
    assert main(["train", "base", *words, "--out", str(data), *first]) == 1
    assert "is the folder of the input pictures" in capsys.readouterr().err


def test_a_run_of_an_earlier_engine_is_not_resumed(tmp_path, photo_folder, settings, finished):
    """Its checkpoints record no version. Weights are weights: they export, and begin another."""
    old = tmp_path / "old"
    shutil.copytree(finished, old)
    found = state(old)
    meta = {name: value for name, value in found.meta.items() if name not in ("engine", "step")}
    save_state(old / "checkpoints", found.meta["step"], found.tensors, meta)
    wanted = rf"old: begun by version 1 of the training engine, .*--from {re.escape(str(old))}$"
    with pytest.raises(TrainingError, match=wanted):
        train(Run(old, photo_folder), settings("budget.steps=8"), resume=True)
    with pytest.raises(TrainingError, match="version 1"):
        stored_config(old)
    assert export_run(old, tmp_path / "a") == export_run(finished, tmp_path / "a")
    new = Run(tmp_path / "new", photo_folder, start_from=str(old))
    assert train(new, settings("budget.steps=1")).step == 1


def test_workers_change_nothing(tmp_path, photo_folder, settings, finished):
    """Stopped without any, and gone on with one: the same to the bit as in one go without."""
    run = Run(tmp_path / "run", photo_folder)
    stop = At(3, lambda: signal.raise_signal(signal.SIGTERM))
    train(run, settings(), progress=stop)
    train(run, settings("data.workers=1", "data.cache_mib=0"), resume=True)
    straight, resumed = state(finished).tensors, state(run.folder).tensors
    assert all(torch.equal(value, resumed[name]) for name, value in straight.items())
    assert multiprocessing.active_children() == []
