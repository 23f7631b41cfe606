"""The contract of a recipe, from the side of who writes one."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import nn

from mpa_core import Recipe, Sample
from mpa_core.config import StrictModel
from mpa_core.errors import (
    ConfigError,
    MissingDependencyError,
    MPAError,
    PathNotFoundError,
    PluginError,
    TrainingError,
)
from mpa_core.evaluation.sets import collect
from mpa_core.plugins.registry import registry
from mpa_core.tasks import (
    PLAIN,
    CropSettings,
    Metric,
    PathBatch,
    PhotoCrops,
    WholePhotos,
    collate,
    freeze,
    load_recipe,
)
from mpa_core.tasks.recipe_calls import RecipeCalls
from mpa_core.training.runs.run import Run, train
from mpa_core.training.settings.path import recipe_defaults

pytestmark = pytest.mark.usefixtures("edges_plugin")


def sample(side=8, dtype=np.uint8, **target):
    return Sample(np.full((side, side, 3), 51, dtype), target)


class Counting(Recipe):
    class Settings(StrictModel):
        weight: float = 2.0


def test_a_recipe_is_found_by_the_name_of_its_path(edges_plugin):
    assert load_recipe("edges").__name__ == "EdgesRecipe"
    assert load_recipe(f"{edges_plugin}:edges") is load_recipe("edges")


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("nobody", PathNotFoundError, "no task path 'nobody'"),
        ("untrained", TrainingError, "has no recipe"),
        ("odd", PluginError, "expected a subclass of mpa_core.Recipe"),
        ("lost", PluginError, "cannot be imported"),
    ],
)
def test_a_recipe_that_cannot_be_had(name, error, words):
    with pytest.raises(error, match=words):
        load_recipe(name)


def test_settings_are_those_of_the_recipe():
    assert Counting().settings.weight == 2.0
    assert Counting({"weight": 3}).settings.weight == 3.0
    assert Counting(Counting.Settings(weight=4)).settings.weight == 4.0
    with pytest.raises(ConfigError, match=r"recipe Counting: .*wait"):
        Counting({"wait": 3})


def test_without_overriding_anything_it_trains_on_photos(few_photos):
    recipe = Recipe(data=CropSettings(crops_per_photo=3, scale=(0.5, 1)), seed=5)
    recipe.setup(torch.device("cpu"))
    crops = recipe.dataset(few_photos, "train", 64)
    assert isinstance(crops, PhotoCrops) and crops.scale == (0.5, 1)
    assert len(crops) == 9
    batch = collate([crops[0], crops[5]], torch.tensor([1.0, 8.0]))
    assert batch.images.shape == (2, 3, 64, 64)
    assert recipe.task_loss(batch.images, batch).tolist() == [0.0, 0.0]
    for split in ("val", "test"):
        whole = recipe.dataset(few_photos, split, None)
        assert isinstance(whole, WholePhotos)
        assert [path.name for path in whole.paths] == [f"piece-{i}.png" for i in range(3)]
        assert whole[1].image.shape == (80, 96, 3)
    assert list(recipe.metrics()) == ["psnr"]


def test_crops_are_the_same_every_time_and_different_from_each_other(few_photos):
    def all_of(**changed):
        return [s.image for s in PhotoCrops(few_photos, 64, **{"per_photo": 8, **changed})]

    first = all_of()
    assert all(np.array_equal(a, b) for a, b in zip(first, all_of(), strict=True))
    assert len({image.tobytes() for image in first}) > 20
    assert any(not np.array_equal(a, b) for a, b in zip(first, all_of(seed=1), strict=True))
    mirrored = [not np.array_equal(a, b) for a, b in zip(first, all_of(flip=False), strict=True)]
    assert 4 < sum(mirrored) < 20
    turned = [not np.array_equal(a, b) for a, b in zip(first, all_of(transpose=True), strict=True)]
    assert sum(turned) > 12
    scaled = [not np.array_equal(a, b) for a, b in zip(first, all_of(scale=(0.8, 1)), strict=True)]
    assert sum(scaled) > 20
    crops = PhotoCrops(few_photos, 64, per_photo=8)
    assert np.array_equal(crops[-1].image, crops[23].image)
    assert len(crops[2:5]) == 3
    assert len(WholePhotos(few_photos)[1:]) == 2
    with pytest.raises(IndexError):
        crops[24]


def test_samples_that_are_no_batch():
    quality = torch.ones(2)
    with pytest.raises(TrainingError, match="cannot be one batch"):
        collate([sample(8), sample(9)], quality)
    with pytest.raises(TrainingError, match="cannot be one batch"):
        collate([sample(), sample(label=torch.tensor(1))], quality)
    with pytest.raises(TrainingError, match="cannot be one batch"):
        collate([sample(dtype=np.float32)] * 2, quality)
    with pytest.raises(TrainingError, match="targets cannot be stacked"):
        collate([sample(label=torch.ones(1)), sample(label=torch.ones(2))], quality)
    batch = collate([sample(label=torch.tensor(i)) for i in range(2)], quality).to("cpu")
    assert batch.targets["label"].tolist() == [0, 1]
    torch.testing.assert_close(batch.images, torch.full((2, 3, 8, 8), 0.2))


def test_frozen_is_eval_without_gradients_that_still_pass():
    module = freeze(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout()))
    assert not any(part.training for part in module.modules())
    x = torch.ones(3, 2, requires_grad=True)
    module(x).sum().backward()
    assert x.grad is not None
    assert all(p.grad is None for p in module.parameters())


class Stop(BaseException):
    """What no ``except Exception`` sees."""


HOOKS = ("__init__", "setup", "dataset", "task_loss", "metrics")


def failing(error):
    def hook(*_, **__):
        raise error

    return hook


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("error", [SystemExit(3), Stop("here"), RuntimeError("here")])
def test_a_hook_that_fails_is_named(tmp_path, few_photos, path_settings, monkeypatch, hook, error):
    config = path_settings("edges")
    monkeypatch.setattr(load_recipe("edges"), hook, failing(error))
    with pytest.raises(PluginError) as caught:
        train(Run(tmp_path / "run", few_photos, few_photos), config)
    kind = type(error).__name__
    said = f"recipe of 'edges' (mpa-plugin-edges 1.2.0): {hook}() failed: {kind}: {error} ("
    assert str(caught.value).startswith(said)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("hook", HOOKS[:3])
def test_a_hook_that_fails_is_named_in_an_evaluation(few_photos, monkeypatch, hook):
    monkeypatch.setattr(load_recipe("edges"), hook, failing(SystemExit(3)))
    with pytest.raises(PluginError, match=rf"^recipe of 'edges' \(.*\): {hook}\(\) failed"):
        collect(few_photos, ["edges"], torch.device("cpu"))


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, ConfigError("a"), MissingDependencyError("no weights")]
)
def test_what_a_hook_raises_on_purpose_passes(few_photos, monkeypatch, error):
    monkeypatch.setattr(load_recipe("edges"), "setup", failing(error))
    with pytest.raises(error if isinstance(error, type) else type(error)) as caught:
        collect(few_photos, ["edges"], torch.device("cpu"))
    assert not isinstance(caught.value, PluginError)


def test_samples_and_statistics_that_fail_are_named(few_photos, monkeypatch):
    calls = RecipeCalls("edges")
    calls.setup(torch.device("cpu"))
    samples = calls.dataset(few_photos, "test", None)
    assert len(samples) == 3
    assert samples[0].image.shape == (80, 96, 3)
    for target, said in (
        (torch.ones(2), "a Sample whose target is a Tensor of shape .*expected a dict of names"),
        ({"weight": 1.0}, "target 'weight' is 1.0, expected a tensor"),
    ):
        with monkeypatch.context() as patched:
            wrong = Sample(samples[0].image, target)
            patched.setattr(
                sys.modules["mpa_plugin_edges.recipe"], "replace", lambda *_, s=wrong, **__: s
            )
            with pytest.raises(TrainingError, match=rf"^recipe of 'edges' \(.*\): .*{said}"):
                samples[0]
    monkeypatch.setattr(sys.modules["mpa_plugin_edges.recipe"], "replace", failing(SystemExit(3)))
    with pytest.raises(PluginError, match=r"^recipe of 'edges' .*: dataset\(\) failed: S"):
        samples[0]
    batch = PathBatch(torch.rand(1, 3, 8, 8), {}, torch.ones(1))
    bad = Metric(
        failing(SystemExit(3)),
        higher_is_better=True,
        unit=PLAIN,
        value=failing(Stop("x")),
        label="agreement",
    )
    with pytest.raises(PluginError, match=r"^metric agreement fails: SystemExit: 3"):
        bad.per_picture(batch.images, batch)
    with pytest.raises(PluginError, match=r"^metric agreement fails: Stop: x"):
        bad.figure(torch.ones(2))


def test_a_path_that_fails_while_it_is_built_is_named(
    tmp_path, few_photos, path_settings, monkeypatch
):
    config = path_settings("edges")
    monkeypatch.setattr(registry().load_class("edges"), "build_mlp", failing(SystemExit(3)))
    with pytest.raises(PluginError, match=r"^task path 'edges' cannot be built: SystemExit: 3"):
        train(Run(tmp_path / "run", few_photos), config)


def spoilt(error):
    def metrics(_):
        def statistics(x_hat, batch):
            raise error

        return {"bad": Metric(statistics, higher_is_better=True, unit=PLAIN, label="of nothing")}

    return metrics


@pytest.mark.parametrize(
    ("hook", "what", "said"),
    [
        ("metrics", spoilt(ValueError("no")), "metric of nothing fails: ValueError: no"),
        ("metrics", lambda _: {"bad": 3}, r"metrics\(\) has 'bad': 3, expected a mpa_core.Metric"),
        ("task_loss", lambda *_: 0.5, r"task_loss\(\) returned 0.5, expected a tensor"),
        (
            "task_loss",
            lambda _, x_hat, batch: (x_hat - batch.images).abs(),
            r"^recipe of 'edges' .*: task_loss\(\) has shape \(1, 3, 64, 64\), expected a scalar",
        ),
        (
            "task_loss",
            lambda _, x_hat, batch: (x_hat.detach() - batch.images).square().mean((1, 2, 3)),
            r"^recipe of 'edges' .*: no gradient goes from task_loss\(\) to x_hat",
        ),
        ("dataset", lambda *_: iter(()), r"dataset\(\) returned .*, expected a sequence"),
        ("dataset", lambda *_: [(1, 2)], r"dataset\(\) has an object of type tuple, expected a"),
    ],
)
def test_what_would_end_a_training_late_ends_it_before_its_first_step(
    tmp_path, few_photos, path_settings, monkeypatch, hook, what, said
):
    config = path_settings("edges")
    monkeypatch.setattr(load_recipe("edges"), hook, what)
    with pytest.raises(MPAError, match=said):
        train(Run(tmp_path / "run", few_photos, few_photos), config)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_pictures_with_nothing_of_the_task_need_no_gradient(few_photos, monkeypatch):
    calls = RecipeCalls("edges")
    monkeypatch.setattr(load_recipe("edges"), "task_loss", lambda _, x_hat, batch: torch.zeros(2))
    images = torch.rand(2, 3, 8, 8)
    batch = PathBatch(images, {}, torch.ones(2))
    assert calls.task_loss(images.clone().requires_grad_(), batch).tolist() == [0, 0]


def test_bad_defaults_are_the_recipes_fault(monkeypatch):
    recipe = load_recipe("edges")
    monkeypatch.setattr(recipe, "defaults", {"loss": {"colour": 1}})
    said = r"^recipe of 'edges' \(mpa-plugin-edges 1.2.0\): its defaults: not a valid .*loss.colour"
    with pytest.raises(PluginError, match=said):
        recipe_defaults("edges")
    monkeypatch.setattr(recipe, "defaults", [1])
    with pytest.raises(PluginError, match=r"its defaults are .*, expected a mapping"):
        recipe_defaults("edges")
