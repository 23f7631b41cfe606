"""The recipe: found by name, its loss, its pictures, its metrics, its settings."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mpa_plugin_detection.classes import CLASSES
from mpa_plugin_detection.distillation import distil
from mpa_plugin_detection.judging import Judge
from mpa_plugin_detection.recipe import DetectionRecipe

import mpa_core
from mpa_core import Sample
from mpa_core.errors import ConfigError
from mpa_core.tasks import DECIBEL, PERCENT, collate, load_recipe, read_photo


@pytest.fixture(scope="module")
def recipe(stamps_folder):
    recipe = DetectionRecipe({"stamps": stamps_folder})
    recipe.setup(torch.device("cpu"))
    return recipe


@pytest.fixture(scope="module")
def batch(recipe, photos_folder):
    samples = recipe.dataset(photos_folder, "train", 192)
    return collate([samples[0], samples[5]], torch.tensor([3.0, 5.0]))


def noisy(batch, strength):
    noise = torch.randn(batch.images.shape, generator=torch.Generator().manual_seed(0))
    return batch.images + strength * noise


def test_the_registered_path_has_this_recipe():
    assert load_recipe("detection") is DetectionRecipe


def test_loss_is_nothing_for_the_original_and_grows_with_the_noise(recipe, batch):
    none, little, much = (recipe.task_loss(noisy(batch, s), batch) for s in (0, 0.02, 0.1))
    assert none.shape == (2,)
    assert none.abs().max() < 1e-4
    assert (little > 1e-3).all() and (much > 1.3 * little).all()


def test_every_term_has_a_gradient_and_its_weight_counts(batch, photos_folder, recipe):
    for name in ("classes", "boxes", "features"):
        others = dict.fromkeys({"classes", "boxes", "features"} - {name}, 0.0)
        alone = DetectionRecipe({**others, "stamps": None, name: 2.0})
        alone.detector = recipe.detector
        x = noisy(batch, 0.05).requires_grad_()
        loss = alone.task_loss(x, batch)
        terms = distil(recipe.detector(x), recipe.detector(batch.images))
        assert loss.tolist() == pytest.approx((2 * getattr(terms, name)).tolist(), rel=1e-4)
        (gradient,) = torch.autograd.grad(loss.sum(), x)
        assert gradient.isfinite().all() and gradient.abs().sum() > 0


def test_readers_have_the_same_loss_and_need_neither_boxes_nor_stamps(recipe, batch, tmp_path):
    plain = DetectionRecipe({"stamps": tmp_path / "none"})
    plain.setup(torch.device("cpu"))
    x = noisy(batch, 0.05)
    assert torch.equal(plain.reader_loss(batch.images)(x), recipe.task_loss(x, batch))


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (47, 61)])
def test_readers_have_a_loss_for_pictures_of_any_size(recipe, batch, size):
    images = batch.images[..., : size[0], : size[1]]
    loss = recipe.reader_loss(images)
    x = images + 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    found = loss(x.requires_grad_())
    assert found.shape == (2,) and (found > loss(images)).all()
    assert loss(images).abs().max() < 1e-4
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert gradient.isfinite().all() and (gradient.flatten(1) != 0).any(1).all()


def test_readers_need_no_torchvision():
    code = """
import sys
import torch
sys.modules["torchvision"] = None
from mpa_plugin_detection.recipe import DetectionRecipe
recipe = DetectionRecipe()
recipe.setup(torch.device("cpu"))
x = torch.rand(1, 3, 64, 64)
print(recipe.reader_loss(x)(x / 2).item() > 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_descending_the_loss_makes_predictions_alike(recipe, batch):
    x = noisy(batch, 0.1).requires_grad_()
    losses = []
    for _ in range(4):
        loss = recipe.task_loss(x, batch).sum()
        (gradient,) = torch.autograd.grad(loss, x)
        x = (x - 0.02 * gradient / gradient.abs().max() / max(1, len(losses))).detach()
        x.requires_grad_()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_training_crops_and_whole_test_pictures(recipe, photos_folder):
    train = recipe.dataset(photos_folder, "train", 192)
    assert len(train) == 2 * recipe.data.crops_per_photo
    assert train[3].image.shape == (192, 192, 3)
    test = recipe.dataset(photos_folder, "test", None)
    assert [sample.image.shape for sample in test] == [(288, 352, 3), (256, 224, 3)]
    assert (train[3].image == recipe.dataset(photos_folder, "train", 192)[3].image).all()


def test_the_judged_pictures_do_not_change_with_the_seed(recipe, photos_folder):
    other = DetectionRecipe(recipe.settings, seed=7)
    for split, same in (("test", True), ("train", False)):
        crop = 192 if split == "train" else None
        pair = [r.dataset(photos_folder, split, crop)[0].image for r in (recipe, other)]
        assert (pair[0] == pair[1]).all() == same


def test_without_stamps_photos_are_as_they_are(photos_folder):
    plain = DetectionRecipe({"stamps": None})
    plain.setup(torch.device("cpu"))
    assert not plain.dataset(photos_folder, "test", None)[0].target
    assert set(plain.metrics()) == {"map", "map50", "psnr"}


def test_every_figure_has_a_direction_and_a_unit(recipe):
    metrics = recipe.metrics()
    assert set(metrics) == {"map", "map50", "map_exact", "map50_exact", "psnr"}
    for name, metric in metrics.items():
        assert metric.higher_is_better
        assert metric.unit == (DECIBEL if name == "psnr" else PERCENT)


def test_figures_of_a_photo_with_an_object(detector):
    """The cat of the SDK's sample photo: as it is, and as nothing but grey."""
    photo = read_photo(Path(mpa_core.__file__).parent / "assets" / "chelsea.png")
    boxes, labels = torch.zeros(2, 4), torch.tensor([CLASSES.index("cat"), -1])
    boxes[0] = torch.tensor([4.0, 1.0, 426.0, 298.0])
    batch = collate([Sample(photo, {"boxes": boxes, "labels": labels})], torch.tensor([4.0]))
    judge = Judge(detector, 0.3, range(80))
    for metric in (*judge.agreement().values(), *judge.exact().values()):
        same = metric.per_picture(batch.images, batch)
        grey = metric.per_picture(torch.full_like(batch.images, 0.5), batch)
        assert metric.figure(same.sum(0)) == pytest.approx(1.0)
        assert metric.figure(grey.sum(0)) == 0.0
        assert metric.figure((same + grey).sum(0)) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    "settings", [{"threshold": 1.0}, {"features": -1.0}, {"boxes": math.inf}, {"class": 1.0}]
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        DetectionRecipe(settings)
