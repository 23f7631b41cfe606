"""Stage 1b: what a step trains, whole runs of the smallest model, resuming to the bit."""

from __future__ import annotations

import json
import math

import pytest
import torch
import torch.nn.functional as F

from mpa_core.errors import TrainingError
from mpa_core.tasks.photos import PhotoFolder
from mpa_core.training.engine.checkpoint import load_latest, save_state
from mpa_core.training.engine.parallel import make_accelerator
from mpa_core.training.runs.base import build_base_trainer
from mpa_core.training.runs.run import Run, train
from mpa_core.training.settings.base import load_config

GAN = ("adversarial.widths=[4,4,6,6]", "adversarial.context_channels=2")
DECODER = "optim.trainable=base.g_s.*"
PREFIX = "discriminator."


@pytest.fixture
def make(photo_folder, settings):
    """``make("key=value", …)``: a trainer on the small photos."""

    def build(*overrides):
        config = settings(*overrides)
        photos = PhotoFolder(photo_folder, min_side=config.data.crop, cache_mib=64)
        return build_base_trainer(config, photos, make_accelerator(config.run))

    return build


def copy(stage):
    return {name: value.clone() for name, value in stage.tensors().items()}


def moved(before, after):
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, photo_folder, settings):
    """One step as a run."""
    run = Run(tmp_path_factory.mktemp("adversarial") / "run", photo_folder)
    train(run, settings(*GAN, "budget.steps=1"))
    return run


def test_the_generators_loss_is_stage_1as_and_the_weighted_term(make):
    stage = make(*GAN, DECODER, "loss.loss_scale=sqrt_rate", "adversarial.weight=1.5")
    plain = make(DECODER, "loss.loss_scale=sqrt_rate")
    images, quality = torch.rand(2, 3, 64, 64), torch.tensor([2.0, 7.4])
    out = stage.objective.module(images, quality)
    terms = stage.objective.terms(images, out, quality, 0.0)
    base = plain.objective.terms(images, out, quality, 0.0)
    logits = stage.objective.adversary.discriminator(out["x_hat"], out["y_hat"], quality)
    nats = -F.logsigmoid(logits).flatten(1).mean(1)
    lambdas = torch.tensor(stage.config.loss.rate_lambdas)
    # Between levels lambda_r is geometric; sqrt_rate divides by its root, relative to the mean.
    here = torch.stack([lambdas[1], lambdas[6] ** 0.6 * lambdas[7] ** 0.4])
    scale = (here / lambdas.log().mean().exp()).sqrt()
    wanted = float((base.total + 1.5 * (nats / scale).mean()).detach())
    assert float(terms.total.detach()) == pytest.approx(wanted, rel=1e-5)
    assert float(terms.extra["generator"]) == pytest.approx(float(nats.mean().detach()), rel=1e-5)


def test_a_step_trains_the_codec_and_the_levels_of_its_batch(make):
    stage = make(*GAN)
    before = copy(stage)
    record = stage.train_step(0, 0.5)
    after = stage.tensors()
    changed = moved(before, after)
    assert record.finite and record.scalars["generator"] > 0
    assert record.scalars["discriminator"] == pytest.approx(2 * math.log(2), rel=0.3)
    assert record.scalars["discriminator_grad_norm"] > 0
    rows = {str(int(row)) for row in stage.objective.adversary.discriminator.rows(record.quality)}
    own = {name for name in changed if name.startswith(f"{PREFIX}model.")}
    assert {name.split(".")[3] for name in own} == rows
    assert any(name.endswith("._u") for name in own)
    assert any(name.startswith("model.base.g_a") for name in changed)


def test_one_set_of_weights_for_all_levels(make):
    stage = make(*GAN, "adversarial.per_level=false", "data.batch=4")
    assert len(stage.objective.adversary.discriminator.by_level) == 1
    before = copy(stage)
    record = stage.train_step(0, 0.5)
    assert len(record.quality.round().unique()) > 1
    changed = {n for n in moved(before, stage.tensors()) if n.startswith(f"{PREFIX}model.")}
    assert changed == {n for n in before if n.startswith(f"{PREFIX}model.by_level.0.")}


def test_each_network_learns_from_its_own_loss_alone(make):
    """With L_G off the codec moves as in stage 1a; the discriminator as with L_G on."""
    alone = make(*GAN, "adversarial.generator_from=1.0")
    whole = make(*GAN)
    plain = make()
    for stage in (alone, whole, plain):
        stage.train_step(0, 0.5)
    tensors = alone.tensors()
    assert moved(plain.tensors(), tensors) == set()
    both = whole.tensors()
    different = moved(tensors, both)
    assert any(name.startswith("model.base.g_s") for name in different)
    assert not any(name.startswith(PREFIX) for name in different)


def test_the_terms_gradient_reaches_the_reconstruction_alone(make):
    stage = make(*GAN, "adversarial.weight=10", "loss.distortion_scale=1e12")
    images, quality = torch.rand(2, 3, 64, 64), torch.tensor([1.0, 4.0])
    out = {
        name: value.detach() if name.endswith("hat") else value
        for name, value in stage.objective.module(images, quality).items()
    }
    x_hat, y_hat = out["x_hat"].requires_grad_(), out["y_hat"].requires_grad_()
    terms = stage.objective.terms(images, out, quality, 0.5)
    terms.total.backward()
    assert y_hat.grad is None
    assert all(
        parameter.grad is None for parameter in stage.objective.adversary.discriminator.parameters()
    )
    moved_x = (x_hat - 0.1 * x_hat.grad / x_hat.grad.abs().max()).detach()
    again = stage.objective.terms(images, {**out, "x_hat": moved_x}, quality, 0.5)
    assert float(again.extra["generator"]) < float(terms.extra["generator"])


def test_decoder_alone_leaves_the_bits(make):
    stage = make(*GAN, DECODER)
    images, quality = torch.rand(2, 3, 64, 64), torch.tensor([1.0, 6.0])
    before, first = copy(stage), stage.objective.module(images, quality)
    for step in range(2):
        record = stage.train_step(step, 0.5)
    changed = {n for n in moved(before, stage.tensors()) if n.startswith("model.")}
    assert changed and all(name.startswith("model.base.g_s.") for name in changed)
    second = stage.objective.module(images, quality)
    assert torch.equal(first["y_hat"], second["y_hat"])
    assert record.scalars["discriminator"] > 0


def test_a_step_that_is_not_finite_changes_nothing(make):
    stage = make(*GAN)
    with torch.no_grad():
        for row in stage.objective.adversary.discriminator.by_level:
            row.head.bias.fill_(math.nan)
    before = copy(stage)
    assert not stage.train_step(0, 0.5).finite
    after = stage.tensors()
    assert all(torch.equal(v.nan_to_num(7.0), after[n].nan_to_num(7.0)) for n, v in before.items())


def test_shards_make_the_same_step_where_there_is_no_noise(make):
    """A frozen encoder has none, so gradients over two shards are those over the batch."""
    options = (*GAN, DECODER, "data.batch=4", "model.drop_path=0")
    once, twice = make(*options), make(*options, "data.shards=2")
    records = [stage.train_step(0, 0.5) for stage in (once, twice)]
    for name in ("generator", "discriminator", "discriminator_margin", "discriminator_grad_norm"):
        torch.testing.assert_close(records[0].scalars[name], records[1].scalars[name])
    wanted = once.tensors()
    for name, value in twice.tensors().items():
        if name.startswith(f"{PREFIX}exp_avg."):
            torch.testing.assert_close(value, wanted[name], rtol=1e-3, atol=1e-7, msg=name)


def test_bf16_steps_stay_near_full_precision(make):
    options = (*GAN, DECODER)
    full, half = make(*options), make(*options, "run.mixed_precision=bf16")
    for stage in (full, half):
        record = stage.train_step(0, 0.5)
        assert record.finite
        assert record.scalars["generator"].dtype == torch.float32
    assert float(record.scalars["discriminator"]) == pytest.approx(2 * math.log(2), rel=0.3)
    assert all(value.dtype != torch.bfloat16 for value in half.tensors().values())
    assert moved(full.tensors(), half.tensors())  # it was another precision


def test_resumed_is_the_same_to_the_bit(make, tmp_path):
    straight = make(*GAN)
    for step in range(2):
        straight.train_step(step, step / 4)
    save_state(tmp_path, 2, straight.tensors(), {"stage": straight.meta()})
    saved = load_latest(tmp_path)
    resumed = make(*GAN)
    resumed.load(saved.tensors, saved.meta["stage"])
    for step in (2, 3):
        straight.train_step(step, step / 4)
        torch.manual_seed(99 + step)  # nothing may hang on the generator's state
        resumed.train_step(step, step / 4)
    assert straight.tensors().keys() == resumed.tensors().keys() == saved.tensors.keys()
    assert moved(straight.tensors(), resumed.tensors()) == set()
    assert moved(saved.tensors, resumed.tensors())


def test_a_run_says_what_it_is(finished):
    """``metrics.jsonl`` and the checkpoint's meta."""
    text = (finished.folder / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert {"generator", "discriminator", "discriminator_margin"} <= lines[1].keys()
    assert lines[0]["kind"] == "stage1b"


def test_resuming_with_another_discriminator_is_refused(finished, settings):
    wider = settings(*GAN, "adversarial.widths=[4,4,6,8]", "budget.steps=2")
    with pytest.raises(TrainingError, match=r"adversarial\.widths"):
        train(finished, wider, resume=True)
    with pytest.raises(TrainingError, match=r"adversarial\.widths"):
        train(finished, settings("budget.steps=2"), resume=True)
    with pytest.raises(TrainingError, match=r"adversarial\.per_level"):
        train(finished, settings(*GAN, "adversarial.per_level=false"), resume=True)
    train(finished, settings(*GAN, "adversarial.weight=1", "budget.steps=2"), resume=True)


def test_the_example_is_valid(root):
    config = load_config(root / "examples" / "configs" / "mpa-small-perceptual.yaml")
    assert config.adversarial is not None and config.optim.trainable == ("base.g_s.*",)
