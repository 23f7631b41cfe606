"""Frozen means frozen, whatever the recipe; and what a step optimises."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from mpa_core import checkpoints
from mpa_core.checkpoints.fingerprint import fingerprint
from mpa_core.errors import CheckpointError, ConfigError
from mpa_core.paths.aggregate import Aggregator
from mpa_core.plugins.registry import registry
from mpa_core.tasks.metric import squared_error_255
from mpa_core.tasks.perceptual import FeatureDistance
from mpa_core.tasks.recipe import load_recipe
from mpa_core.training.data.samples import SampleBatches
from mpa_core.training.objectives.path_loss import PathLoss
from mpa_core.training.runs.side_start import init_from_main
from mpa_core.training.runs.weights import build_path

TRAINABLE = sorted(path.qualified_name for path in registry().paths() if path.spec.recipe)


class Grey(FeatureDistance):
    """The whole picture as one feature."""

    def features(self, x):
        return [x]


def stepped(trainer, count=2):
    return [trainer.train_step(step, 0.5) for step in range(count)]


def norm_of(parameters):
    return torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()


def test_first_party_recipes_are_tested_here():
    assert {"mpa-core:cls", "mpa-core:mse", "mpa-core:seg"} <= set(TRAINABLE)


@pytest.mark.parametrize("name", [*TRAINABLE, "edges"])
def test_the_base_is_frozen_whatever_the_recipe(
    make_path_trainer, path_settings, mask_folder, name
):
    overrides = ["optim.clip=1e-3"]
    if name == "mpa-core:seg":
        overrides.append(f"recipe.masks={mask_folder}")
    trainer = make_path_trainer(name, *overrides)
    model = trainer.objective.model
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert fingerprint(before) == checkpoints.load_base(trainer.config.base).fingerprint
    path_before = {key: value.clone() for key, value in trainer.objective.module.named_parameters()}

    records = stepped(trainer)

    assert all(record.finite for record in records)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert trainer.objective.base_fingerprint() == fingerprint(before)
    assert not any(module.training for module in model.modules())
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
    # The norm that is clipped is the path's alone: clipped, the path's gradients have it all.
    assert float(records[-1].scalars["grad_norm"]) > 1e-2
    torch.testing.assert_close(
        float(norm_of(trainer.objective.module.parameters())), 1e-3, rtol=1e-3, atol=0
    )
    # What the recipe brought along is frozen as well.
    recipe = trainer.objective.recipe.recipe
    own = [part for part in vars(recipe).values() if isinstance(part, nn.Module)]
    assert own or name == "mpa-core:mse"
    for part in own:
        assert not any(module.training for module in part.modules())
        assert not any(p.requires_grad or p.grad is not None for p in part.parameters())
    moved = [
        n
        for n, p in trainer.objective.module.named_parameters()
        if not torch.equal(p, path_before[n])
    ]
    assert len(moved) > len(path_before) // 2


def test_a_step_asks_each_picture_for_its_own_share(make_path_trainer):
    trainer = make_path_trainer("edges", "data.batch=6", "loss.full_share=0.3")
    seen = []
    shares = set()
    for number in range(20):
        given = trainer.source.batch(number)
        assert torch.equal(given.main_share, 1 - (given.q_task.double() - 1) / 7)
        seen += given.q_task.tolist()
        shares.add(tuple(given.q_task.tolist()))
    assert set(seen) == set(range(1, 9))
    assert 0.25 < seen.count(8.0) / len(seen) < 0.55  # 0.3 + 0.7 / 8
    assert len(shares) == 20
    rows = trainer.source.batch(3, [4, 1])
    whole = trainer.source.batch(3)
    assert torch.equal(rows.q_task, whole.q_task[[4, 1]])
    assert torch.equal(rows.batch.images, whole.batch.images[[4, 1]])
    together = make_path_trainer("edges", "data.batch=6", "loss.quality_sampling=per_step")
    assert all(together.source.batch(n).q_task.unique().numel() == 1 for n in range(9))


def test_each_epoch_has_every_sample_once(make_path_trainer):
    source = make_path_trainer("edges").source
    assert (len(source.samples), source.steps_per_epoch) == (6, 3)
    epochs = [
        sorted(w for n in range(3 * e, 3 * e + 3) for w in weights(source.batch(n)))
        for e in range(2)
    ]
    assert epochs == [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]] * 2
    orders = [
        [w for n in range(3 * e, 3 * e + 3) for w in weights(source.batch(n))] for e in (0, 1)
    ]
    assert orders[0] != orders[1]


def test_a_damaged_photo_is_replaced_targets_and_all(path_settings, few_photos, tmp_path):
    """Its two crops give way to the first crop of the next photo."""
    shutil.copytree(few_photos, tmp_path, dirs_exist_ok=True)
    damaged = tmp_path / "piece-1.png"
    os.truncate(damaged, damaged.stat().st_size - 2000)
    config = path_settings("edges")
    samples = load_recipe("edges")(data=config.data).dataset(tmp_path, "train", 64)
    source = SampleBatches(samples, config.data, config.loss, levels=8, seed=0)
    steps = [source.batch(number) for number in range(3)]
    assert sorted(w for given in steps for w in weights(given)) == [1, 2, 5, 5, 5, 6]
    pictures = {}
    for given in steps:
        for weight, picture in zip(weights(given), given.pictures, strict=True):
            assert np.array_equal(pictures.setdefault(weight, picture), picture)
    late = SampleBatches(samples, config.data, config.loss, levels=8, seed=0).batch(2)
    assert torch.equal(late.batch.images, steps[2].batch.images)


def weights(given):
    return given.batch.targets["weight"].tolist()


def test_the_loss_is_equation_9(path_settings):
    x, x_hat = torch.rand(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    task = torch.tensor([1.0, 2.0, 3.0, 6.0])
    quality = torch.tensor([1.0, 3.0, 5.0, 8.0])
    ratio = torch.tensor(0.3)
    config = path_settings(
        "edges",
        "loss.task_weight=2",
        "loss.distortion_weight=0.5",
        "loss.ratio_weight=7",
        "loss.perceptual_shift=0",
    ).loss
    mse = squared_error_255(x, x_hat)
    terms = PathLoss(config)(x, x_hat, task, quality, ratio)
    torch.testing.assert_close(terms.total, (2 * task + 0.5 * mse / 100).mean() + 7 * ratio)
    assert torch.equal(terms.mse, mse)
    assert (terms.task, terms.ratio, terms.perceptual) == (3.0, ratio, 0.0)
    scalar = PathLoss(config)(x, x_hat, torch.tensor(3.0), quality, ratio)
    torch.testing.assert_close(scalar.total, terms.total)

    seen = Grey()
    distance = seen(x, x_hat)
    with_it = PathLoss(config, seen)(x, x_hat, task, quality, ratio)
    torch.testing.assert_close(with_it.total, terms.total + 4.26 * distance.mean())
    off = PathLoss(config, seen)(x, x_hat, task, quality, ratio, perceptual=False)
    assert off.total == terms.total
    half = config.model_copy(update={"perceptual_images": 2})
    first = PathLoss(half, seen, shards=2)(x, x_hat, task, quality, ratio)
    torch.testing.assert_close(first.perceptual, distance[0])

    even = config.model_copy(update={"loss_scale": "sqrt_rate"})
    scaled = PathLoss(even)(x, x_hat, task, quality, ratio)
    scale = PathLoss(even).rate.scale(quality, 0.5)
    per_image = (2 * task + 0.5 * mse / 100) / scale
    torch.testing.assert_close(scaled.total, per_image.mean() + 7 * ratio)


def test_training_lowers_the_loss_at_full_share(make_path_trainer):
    """Twelve steps beat none by the recipe's own measure: everything to the side path."""
    trainer = make_path_trainer("edges", "optim.lr=3e-2", "optim.ema_decay=0", "loss.full_share=1")
    given = trainer.source.batch(0)

    def task(path):
        y_hat, _ = trainer.objective.latents(
            given.pictures, given.batch.images, given.batch.quality
        )
        router = Aggregator.for_shares(path, torch.zeros(2, dtype=torch.float64))
        base = trainer.objective.model.base
        with torch.no_grad():
            x_hat = base.synthesise(y_hat, base.quality(given.batch.quality, y_hat), router)
            loss = trainer.objective.recipe.task_loss(x_hat, given.batch).mean()
            return float(loss + squared_error_255(given.batch.images, x_hat).mean() / 100)

    before = task(trainer.averaged())
    stepped(trainer, 12)
    assert task(trainer.averaged()) < 0.9 * before


def test_steps_do_not_hang_on_what_was_drawn_before(make_path_trainer):
    first, second = make_path_trainer("edges"), make_path_trainer("edges")
    stepped(first)
    for step in range(2):
        torch.manual_seed(99 + step)
        second.train_step(step, 0.5)
    state = second.tensors()
    assert all(torch.equal(value, state[name]) for name, value in first.tensors().items())


def test_shards_are_parts_of_the_same_batch(make_path_trainer):
    """Of a batch in two shards each picture is seen once; what is logged is of all of them."""
    whole = make_path_trainer("edges", "data.batch=4").train_step(0, 0.5)
    parts = make_path_trainer("edges", "data.batch=4", "data.shards=2").train_step(0, 0.5)
    assert torch.equal(whole.quality, parts.quality)
    assert torch.equal(whole.per_image["bpp"], parts.per_image["bpp"])
    assert parts.per_image["mse"].shape == (4,)


def test_what_trains_can_be_chosen(make_path_trainer):
    trainer = make_path_trainer("edges", "optim.trainable=stages.*.predictor.*")
    before = {name: value.clone() for name, value in trainer.objective.module.state_dict().items()}
    stepped(trainer)
    moved = {
        name
        for name, value in trainer.objective.module.named_parameters()
        if not torch.equal(value, before[name])
    }
    assert moved
    assert all("predictor" in name for name in moved)
    with pytest.raises(ConfigError, match="no parameter is called 'mlps'"):
        make_path_trainer("edges", "optim.trainable=mlps")


def test_a_state_of_another_path_does_not_fit(make_path_trainer):
    trainer, wider = make_path_trainer("edges"), make_path_trainer("edges", "path.hidden_ratio=1")
    meta = dict(trainer.meta())
    with pytest.raises(CheckpointError, match=r"fc1.weight is \["):
        wider.load(trainer.tensors(), meta)
    fewer = {name: v for name, v in trainer.tensors().items() if not name.startswith("adam")}
    with pytest.raises(CheckpointError, match="only in one of them"):
        trainer.load(fewer, meta)


@pytest.mark.parametrize("ratio", [0.5, 2.0, 3.0])
def test_a_path_can_begin_as_the_main_path(make_path_trainer, path_settings, ratio):
    trainer = make_path_trainer("mpa-core:mse", f"path.hidden_ratio={ratio}")
    base = trainer.objective.model.base
    given = trainer.source.batch(0)
    y_hat, _ = trainer.objective.latents(given.pictures, given.batch.images, given.batch.quality)
    quality = base.quality(given.batch.quality, y_hat)

    def by(path):
        router = Aggregator.for_shares(path, torch.zeros(2, dtype=torch.float64))
        with torch.no_grad():
            return base.synthesise(y_hat, quality, router)

    with torch.no_grad():
        main = base.synthesise(y_hat, quality)
    random = (by(trainer.objective.module) - main).square().mean()
    init_from_main(trainer.objective.module, trainer.objective.model, y_hat, given.batch.quality)
    begun = (by(trainer.objective.module) - main).square().mean()
    assert float(random) > 0
    if ratio >= 2:  # as wide as the main MLPs, or wider
        torch.testing.assert_close(by(trainer.objective.module), main, rtol=0, atol=1e-5)
        first = trainer.objective.module.stage(1).mlps[0].fc1.weight
        assert first[-1].abs().max() > 0  # units beyond the main ones can learn
    else:
        assert begun < 0.5 * random


def test_only_side_mlps_can_begin_as_the_main_path(make_path_trainer, path_settings):
    trainer = make_path_trainer("edges")
    given = trainer.source.batch(0)
    y_hat, _ = trainer.objective.latents(given.pictures, given.batch.images, given.batch.quality)
    with pytest.raises(ConfigError, match="builds Sequential"):
        init_from_main(
            trainer.objective.module, trainer.objective.model, y_hat, given.batch.quality
        )


def test_a_path_is_built_from_the_seed(path_settings):
    config = path_settings("edges")
    base = checkpoints.load_base(config.base)
    first, again = build_path(config, base), build_path(config, base)
    other = build_path(path_settings("edges", "seed=1"), base)
    pairs = zip(first.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    pairs = zip(first.parameters(), other.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)
    with pytest.raises(ConfigError, match=r"settings of the path: .*hidden"):
        build_path(path_settings("edges", "path.hidden=1"), base)
