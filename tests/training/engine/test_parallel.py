"""Two real processes (gloo) against one: the same run, up to rounding."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mpa_core import MPACodec
from mpa_core.errors import ConfigError, TrainingError
from mpa_core.training.engine.board import BOARD
from mpa_core.training.engine.checkpoint import load_latest
from mpa_core.training.engine.optim import noise_seed
from mpa_core.training.engine.parallel import make_accelerator, own_shards
from mpa_core.training.runs.run import Run, train
from mpa_core.training.settings.base import RunSettings, load_config

SCRIPT = Path(__file__).with_name("two_processes.py")
_spec = importlib.util.spec_from_file_location("two_processes", SCRIPT)
two_processes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(two_processes)


def launch(*arguments):
    """Run the script on two processes; what they wrote to stdout."""
    options = ["--num_processes=2", "--num_machines=1", "--mixed_precision=no",
               "--dynamo_backend=no", "--main_process_port=0"]  # fmt: skip
    # The flag picks Accelerate's launcher of several processes, which runs on CPUs as well.
    args = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", *options]
    done = subprocess.run(
        [*args, str(SCRIPT), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def state(folder):
    return load_latest(folder / "checkpoints")


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder of a base."""
    folder = tmp_path_factory.mktemp("bases") / "tiny"
    MPACodec.from_preset("mpa-tiny").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory, photo_folder, base):
    """The folder that two processes wrote."""
    folder = tmp_path_factory.mktemp("pair")
    (folder / "stdout").write_text(launch(folder, photo_folder, base))
    return folder


@pytest.fixture(scope="module")
def facts(pair):
    """By rank: what the script saw there."""
    return [json.loads((pair / f"facts-{rank}.json").read_text()) for rank in (0, 1)]


def assert_same_run(one, two, prefixes):
    """Weights and optimisers differ by far less than training has moved them."""
    assert one.meta["step"] == two.meta["step"]
    assert one.tensors.keys() == two.tensors.keys()
    for prefix in prefixes:
        names = [name for name in one.tensors if name.startswith(prefix)]
        mine = torch.cat([one.tensors[name].flatten() for name in names])
        other = torch.cat([two.tensors[name].flatten() for name in names])
        assert mine.norm() > 0
        assert (mine - other).norm() < 1e-4 * mine.norm(), prefix


EVERYTHING = ("model.", "average.", "adam.exp_avg.", "adam.exp_avg_sq.", "aux.exp_avg.",
              "model.base.entropy.z_prior.quantiles", "discriminator.model.",
              "discriminator.exp_avg.", "discriminator.exp_avg_sq.")  # fmt: skip


def test_two_processes_are_one_with_the_same_shards(pair, photo_folder, tmp_path):
    """Stage 1b: the codec's two optimisers and the discriminator's."""
    run = Run(tmp_path / "run", photo_folder)
    train(run, load_config(None, two_processes.NOISY))
    one, two = state(run.folder), state(pair / "straight")
    assert (one.meta["processes"], two.meta["processes"]) == (1, 2)
    assert_same_run(one, two, EVERYTHING)


def test_two_processes_are_one_in_stage_2(pair, photo_folder, base, tmp_path):
    run = Run(tmp_path / "run", photo_folder)
    train(run, two_processes.path_config(base))
    one, two = state(run.folder), state(pair / "path")
    assert (one.meta["processes"], two.meta["processes"]) == (1, 2)
    assert_same_run(one, two, ("path.", "average.", "adam.exp_avg.", "adam.exp_avg_sq."))


def test_two_processes_are_one_with_twice_the_batch(pair, photo_folder, tmp_path):
    """Each process has two of the four crops that one process takes at once.

    Here nothing is drawn at random but the crops: the encoder and the entropy model are frozen and
    there is no stochastic depth. Where noise is drawn, its values depend on the shape of the batch,
    so one shard of four crops sees other noise than two shards of two.
    """
    run = Run(tmp_path / "run", photo_folder)
    train(run, load_config(None, [*two_processes.WITHOUT_NOISE, "data.shards=1"]))
    prefixes = ("model.base.g_s.", "average.", "adam.exp_avg.", "adam.exp_avg_sq.")
    assert_same_run(state(run.folder), state(pair / "plain"), prefixes)


def test_resumed_on_two_processes_to_the_bit(pair):
    straight, resumed = state(pair / "straight"), state(pair / "resumed")
    different = [
        name
        for name, value in straight.tensors.items()
        if not torch.equal(value, resumed.tensors[name])
    ]
    assert different == []


def test_a_run_of_two_processes_goes_on_with_one(pair, photo_folder, tmp_path):
    run = Run(pair / "plain", photo_folder)
    config = load_config(None, [*two_processes.WITHOUT_NOISE, "budget.steps=5"])
    assert train(run, config, resume=True).step == 5


def test_the_main_process_decides_and_writes(pair, facts):
    """SIGTERM reached rank 0 alone; both ended after the same step."""
    for rank in (0, 1):
        assert facts[rank]["stopped"] == [2, "signal", rank == 0]
        assert facts[rank]["resumed"] == [4, "budget", rank == 0]
    lines = metrics(pair / "resumed")
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    assert [line["event"] for line in lines if "event" in line] == [
        "start", "end", "start", "validation", "end"
    ]  # fmt: skip


def test_metrics_are_of_both_processes(pair):
    lines = metrics(pair / "straight")
    for line in (line for line in lines if "loss" in line):
        assert sum(level["images"] for level in line["levels"].values()) == 4


def test_a_gradient_missing_on_one_process_counts_as_zero(facts):
    for each in facts:
        assert each["gradients"] == [[1.0, 2.0], [0.5, 0.5], None]


def test_command_line(pair, facts):
    assert [each["exit"] for each in facts] == [0, 0]
    out = (pair / "stdout").read_text()
    assert json.loads(out)["step"] == 1  # one document: one process has written
    assert state(pair / "command").meta["processes"] == 2


class Processes:
    """As many as asked for; of Accelerate only the numbers."""

    def __init__(self, rank, count):
        self.process_index, self.num_processes = rank, count


def test_shards():
    rows = [[list(s.rows) for s in own_shards(Processes(r, 2), 8, 4)] for r in (0, 1)]
    assert rows == [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
    assert noise_seed(0, 5, shard=0) != noise_seed(0, 5, shard=1) != noise_seed(0, 6, shard=1)
    with pytest.raises(TrainingError, match=r"data\.shards is 4 for 3 processes.*shards=3"):
        own_shards(Processes(0, 3), 8, 4)
    with pytest.raises(ConfigError, match="batch of 8 cannot be cut into 3 equal shards"):
        load_config(None, ["model=mpa-tiny", "data.shards=3"])


def test_what_cannot_be_had():
    with pytest.raises(TrainingError, match=r"run\.mixed_precision=fp16"):
        make_accelerator(RunSettings(device="cpu", mixed_precision="fp16"))
    with pytest.raises(TrainingError, match=r"Accelerate offers (?!mps)"):
        make_accelerator(RunSettings(device="mps"))


def test_processes_that_do_not_find_one_another_are_refused(monkeypatch):
    """Each would take itself for the main one, and all would write to one folder."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)  # but not for Accelerate
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="2 processes were launched and Accelerate joins 1"):
        make_accelerator(RunSettings())


def test_precision_comes_from_the_settings_or_the_launcher(monkeypatch):
    assert load_config(None, ["model=mpa-tiny", "run.mixed_precision=no"]).run.mixed_precision == (
        "no"
    )
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert make_accelerator(RunSettings()).mixed_precision == "bf16"
    assert make_accelerator(RunSettings(mixed_precision="no")).mixed_precision == "no"


def test_bf16_learns_as_float32_does(tmp_path, photo_folder, settings):
    """Autocast is on in the forward pass alone: weights, losses and state stay float32."""
    losses = {}
    for precision in ("no", "bf16"):
        run = Run(tmp_path / precision, photo_folder)
        train(run, settings(f"run.mixed_precision={precision}", "budget.steps=3"))
        lines = metrics(run.folder)
        losses[precision] = torch.tensor([line["loss"] for line in lines if "loss" in line])
    assert not torch.equal(losses["bf16"], losses["no"])
    torch.testing.assert_close(losses["bf16"], losses["no"], rtol=0.03, atol=0)
    assert all(t.dtype != torch.bfloat16 for t in state(tmp_path / "bf16").tensors.values())


def test_tensorboard(tmp_path, photo_folder, settings):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = Run(tmp_path / "run", photo_folder, photo_folder)
    shown = ("run.tensorboard=true", "run.validate_images=1", "run.validate_samples=true",
             "run.validate_side=64")  # fmt: skip
    train(run, settings(*shown, "budget.steps=2"))
    train(run, settings(*shown, "budget.steps=3"), resume=True)
    events = EventAccumulator(str(run.folder / BOARD)).Reload()
    lines = metrics(run.folder)
    found = {event.step: event.value for event in events.Scalars("train/loss")}
    written = {line["step"]: line["loss"] for line in lines if "loss" in line}
    assert list(found) == [1, 2, 3]
    assert found == pytest.approx(written)
    assert [event.step for event in events.Scalars("validation/quality 8/psnr")] == [2, 3]
    assert [(e.step, e.width, e.height) for e in events.Images("samples/q1")] == [
        (2, 64, 64), (3, 64, 64)
    ]  # fmt: skip
