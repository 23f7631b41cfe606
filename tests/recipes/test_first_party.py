"""The recipes of all first-party paths: settings, samples, loss, metrics, and a frozen base."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mpa_core import MPACodec, checkpoints
from mpa_core.tasks import collate, load_recipe
from mpa_core.training.runs.run import Run, train
from mpa_core.training.settings.path import load_path_config

CPU = torch.device("cpu")


def test_the_registry_has_them(recipes):
    assert sorted(recipes) == ["cls", "mse", "seg"]


def test_finding_them_imports_no_torch():
    code = (
        "import sys; from mpa_core.plugins.registry import registry; "
        "print([p.spec.recipe for p in registry().paths() if p.distribution == 'mpa-core']); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found, torch_there = done.stdout.splitlines()
    assert "None" not in found and found.count("mpa_plugins.") == 3
    assert torch_there == "False"


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (47, 61), (270, 33)])
def test_readers_losses_are_for_pictures_of_any_size(recipes, noisy, cat, size):
    images = torch.cat([cat, cat.flip(3)])[..., 20 : 20 + size[0], 60 : 60 + size[1]]
    assert recipes["mse"].reader_loss(images) is None
    for name in ("cls", "seg"):
        loss = recipes[name].reader_loss(images)
        little, much = (noisy(images, strength).requires_grad_() for strength in (0.02, 0.2))
        none, found = loss(images), loss(much)
        assert none.shape == found.shape == (2,)
        assert none.abs().max() < 1e-6 and (found > none).all()
        assert found.mean() > loss(little).mean()
        (gradient,) = torch.autograd.grad(found.sum(), much)
        assert gradient.isfinite().all()
        assert (gradient.flatten(1) != 0).any(1).all()


def test_readers_losses_need_no_data(tmp_path, cat):
    """Default settings, where no stamps are installed."""
    nowhere = {"cls": {}, "seg": {"stamps": tmp_path / "none"}}
    for name, settings in nowhere.items():
        recipe = load_recipe(name)(settings)
        recipe.setup(CPU)
        assert recipe.reader_loss(cat[..., :64, :64])(cat[..., :64, :64] * 0.5).item() > 0


def test_files_for_a_reader_without_the_libraries_of_training():
    """What is missing is said as for every other command, and only where something is."""
    code = """
import sys
import numpy as np
from mpa_core import MPACodec
from mpa_core.errors import MissingDependencyError
sys.modules.update(dict.fromkeys(("timm", "torchvision", "accelerate", "h5py")))
codec = MPACodec.from_pretrained("mpa-small")
grey = np.full((40, 50, 3), 99, np.uint8)
for name in ("mse", "cls", "seg"):
    codec.load_path(name)
    try:
        print(name, len(codec.encode(grey, quality=3, effort=1, reader=name)) > 0)
    except MissingDependencyError as error:
        print(name, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    mse, *others = done.stdout.splitlines()
    assert mse == "mse True"
    for name, line in zip(("cls", "seg"), others, strict=True):
        assert line.startswith(f"{name} the pretrained model efficientnet-lite0 needs timm"), line


def test_defaults_and_published_constants_are_valid_settings(recipe_name, root: Path):
    defaults = load_recipe(recipe_name).defaults
    small = load_path_config(recipe_name, "mpa-tiny", None, defaults=defaults)
    assert (small.budget.hours, small.budget.epochs) == (0.4, None)
    assert (small.init.mlp, small.path) == ("main", {"hidden_ratio": 2.0})
    assert small.loss.perceptual == (None if recipe_name == "mse" else "efficientnet-lite0")
    file = root / "examples" / "configs" / f"{recipe_name}-paper.yaml"
    paper = load_path_config(recipe_name, "mpa-base", file, defaults=defaults)
    load_recipe(recipe_name).Settings.parse(paper.recipe, source=str(file))
    assert (paper.optim.lr, paper.optim.ema_decay, paper.optim.clip) == (1e-4, 0, 1.0)
    assert (paper.init.mlp, paper.loss.full_share) == ("random", 0)
    assert (paper.loss.task_weight, paper.loss.distortion_weight) == (1, 1)
    assert paper.loss.perceptual_weight == 4.26
    # Table 2 of the paper: inverted bottlenecks for MSE, bottlenecks for the others.
    assert paper.path == {"hidden_ratio": 2.0 if recipe_name == "mse" else 0.5}
    assert (paper.loss.loss_scale, paper.loss.quality_sampling) == ("paper", "per_step")
    assert paper.budget.hours is None
    epochs = {"mse": 200, "cls": 4, "seg": 200}
    assert paper.budget.epochs * paper.data.crops_per_photo == epochs[recipe_name]
    assert paper.schedule.milestones == () and paper.schedule.warmup == 0


def test_the_settings_for_a_gpu_fit_every_path(recipe_name, root: Path):
    file = root / "examples" / "configs" / "path-gpu.yaml"
    found = load_path_config(
        recipe_name, "mpa-small", file, defaults=load_recipe(recipe_name).defaults
    )
    assert (found.data.batch, found.cache.limit_gib, found.cache.batched) == (32, 0, True)


def test_samples_and_the_gradient_of_the_loss(recipe_name, recipes, photos: Path, noisy):
    recipe = recipes[recipe_name]
    crops = recipe.dataset(photos, "train", 96)
    assert len(crops) == 2 * recipe.data.crops_per_photo
    again = recipe.dataset(photos, "train", 96)
    samples = [crops[0], crops[len(crops) - 1]]
    for sample, same in zip(samples, (again[0], again[-1]), strict=True):
        assert sample.image.shape == (96, 96, 3)
        assert np.array_equal(sample.image, same.image)
        assert all(torch.equal(sample.target[key], same.target[key]) for key in sample.target)
    batch = collate(samples, torch.ones(2))
    batch.images.requires_grad_()
    x_hat = noisy(batch.images.detach(), 0.1).requires_grad_()
    networks = [value for value in vars(recipe).values() if isinstance(value, torch.nn.Module)]
    before = [{k: v.clone() for k, v in net.state_dict().items()} for net in networks]
    loss = recipe.task_loss(x_hat, batch)
    assert loss.shape == (2,)
    assert len(networks) == (0 if recipe_name == "mse" else 1)
    if recipe_name == "mse":
        assert loss.tolist() == [0, 0]
        return
    assert (loss > 0).all()
    loss.sum().backward()
    assert x_hat.grad.flatten(1).norm(dim=1).min() > 0
    assert batch.images.grad is None
    for net, state in zip(networks, before, strict=True):
        assert not any(module.training for module in net.modules())
        assert all(p.grad is None and not p.requires_grad for p in net.parameters())
        assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


def test_metrics_of_the_original_and_of_noise(recipe_name, recipes, photos: Path, noisy):
    recipe = recipes[recipe_name]
    metrics = recipe.metrics()
    assert (
        set(metrics)
        == {
            "mse": {"psnr"},
            "cls": {"agreement", "agreement_unseen", "psnr"},
            "seg": {"miou", "miou_unseen", "psnr"},
        }[recipe_name]
    )
    whole = recipe.dataset(photos, "test", None)
    batch = collate([whole[0]], torch.ones(1))
    assert batch.images.shape == (1, 3, 128, 144)
    for key, metric in metrics.items():
        clean = metric.per_picture(batch.images, batch)
        bad = metric.per_picture(noisy(batch.images, 0.6), batch)
        assert metric.higher_is_better and metric.label
        values = [metric.value(statistics.sum(0)) for statistics in (clean, bad)]
        if key.startswith("agreement"):
            assert clean.tolist() == [[1.0, 1.0]]
        if key == "psnr":
            assert values[0] == 120 and 5 < values[1] < 15
        else:
            assert all(0 <= value <= 1 for value in values)


def test_training_leaves_the_base_as_it_was(
    recipe_name, photos: Path, stamps: Path, tmp_path: Path
):
    MPACodec.from_preset("mpa-tiny").save_pretrained(tmp_path / "base")
    before = checkpoints.load_base(tmp_path / "base").fingerprint
    recipe = load_recipe(recipe_name)
    items = ["data.crop=64", "data.batch=2", "budget.hours=null", "budget.steps=2"]
    if recipe_name == "seg":
        items.append(f"recipe.stamps={stamps}")
    config = load_path_config(
        recipe_name, str(tmp_path / "base"), None, items, defaults=recipe.defaults
    )
    outcome = train(Run(tmp_path / "run", photos), config)
    assert outcome.step == 2
    assert checkpoints.load_base(tmp_path / "base").fingerprint == before
    lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert any("task" in json.loads(line) for line in lines)
