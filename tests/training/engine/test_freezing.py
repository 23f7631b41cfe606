"""Frozen parts: no gradient, no noise, the same to the bit, up to the exported base."""

from __future__ import annotations

import pytest
import torch

from mpa_core import MPACodec
from mpa_core.coding.model import MPAModel
from mpa_core.errors import ConfigError, TrainingError
from mpa_core.io.images import to_rgb_tensor
from mpa_core.training.engine.checkpoint import load_latest
from mpa_core.training.engine.freezing import freeze_model
from mpa_core.training.runs.export import export_run
from mpa_core.training.runs.run import Run, train

DECODER = ("optim.trainable=base.g_s.*", "optim.lr=1e-3", "budget.steps=3")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A base with drop path and tables, as float16: what is shipped."""
    torch.manual_seed(0)
    codec = MPACodec.from_preset("mpa-tiny")
    folder = tmp_path_factory.mktemp("bases") / "start"
    codec.save_pretrained(folder, dtype="float16")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, photo_folder, settings, start):
    """A run that trained the decoder of ``start`` alone, stopped and resumed."""
    run = Run(tmp_path_factory.mktemp("decoder") / "run", photo_folder, start_from=str(start))
    train(run, settings(*DECODER, "budget.steps=2"))
    train(run, settings(*DECODER), resume=True)
    return run.folder


def test_only_the_decoder_moves(trained, start, tmp_path):
    export_run(trained, tmp_path / "base")
    before = MPACodec.from_pretrained(start).model.state_dict()
    after = MPACodec.from_pretrained(tmp_path / "base").model.state_dict()
    assert before.keys() == after.keys()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved and all(name.startswith("base.g_s.") for name in moved)
    assert any(name.endswith("_quantized_cdf") and value.numel() for name, value in before.items())


def test_files_stay_the_same(trained, start, tmp_path, sample):
    """The new decoder reads the streams of the old encoder, and its own are the same."""
    export_run(trained, tmp_path / "base")
    picture = sample.crop((0, 0, 64, 64))
    streams = [
        MPACodec.from_pretrained(folder).model.compress(to_rgb_tensor(picture).tensor, 3.0)[
            "strings"
        ]
        for folder in (start, tmp_path / "base")
    ]
    assert streams[0] == streams[1]


def test_the_state_holds_what_trains(trained):
    names = load_latest(trained / "checkpoints").tensors
    assert not [name for name in names if name.startswith("aux.")]
    optimised = [n for n in names if n.startswith(("adam.", "average."))]
    assert optimised and all("base.g_s." in name for name in optimised)


def test_frozen_parts_compute_what_they_compute_in_use():
    torch.manual_seed(0)
    model = MPAModel(MPACodec.from_preset("mpa-tiny").model.config)
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = model.eval()(x, 4.5)
    freeze_model(model, ("base.g_s.*",))
    outs = [model(x, 4.5) for _ in range(2)]
    for out in outs:
        assert torch.equal(out["y_hat"], expected["y_hat"]) and not out["y_hat"].requires_grad
        assert torch.equal(out["likelihoods"]["y"], expected["likelihoods"]["y"])
        assert out["x_hat"].requires_grad and "ratio_loss" not in out


def test_the_rate_reaches_the_encoder_through_a_frozen_entropy_model():
    model = MPACodec.from_preset("mpa-tiny").model
    freeze_model(model, ("base.g_a.*",))
    assert model.base.entropy.has_tables and model.base.g_a.training
    model(torch.rand(1, 3, 64, 64), 4.0)["likelihoods"]["y"].log().sum().backward()
    assert all(p.grad is None for p in model.base.entropy.parameters())
    assert float(model.base.g_a.get_parameter("stages.0.conv.weight").grad.abs().sum()) > 0


def test_refusals(photo_folder, settings, start, trained, tmp_path):
    run = Run(tmp_path / "run", photo_folder, start_from=str(start))
    with pytest.raises(ConfigError, match=r"no parameter is called 'g_s\.\*'.*base\.g_s"):
        train(run, settings("optim.trainable=[base.g_a.*,g_s.*]"))
    with pytest.raises(ConfigError, match="nothing but quantiles"):
        train(run, settings("optim.trainable='*quantiles'"))
    with pytest.raises(ConfigError, match=r"set init\.block_rescale=1"):
        train(run, settings(*DECODER, "init.block_rescale=20"))
    with pytest.raises(TrainingError, match=r"optim\.trainable"):
        train(Run(trained, photo_folder), settings("budget.steps=9"), resume=True)
