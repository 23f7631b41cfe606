"""The recipe of the seg path: composites, networks, masks, scores."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mpa_core.errors import (
    CheckpointError,
    ConfigError,
    TrainingError,
)
from mpa_core.tasks import Recipe, collate
from mpa_plugins.seg import train_head
from mpa_plugins.seg.composites import Composites, paste, place
from mpa_plugins.seg.network import HEADS, HeadConfig, Segmenter, load_head, save_head
from mpa_plugins.seg.recipe import SegRecipe
from mpa_plugins.seg.scores import cross_entropy, intersections_and_unions, mean_iou
from mpa_plugins.seg.stamps import CLASSES, Stamp, load_stamps

CPU = torch.device("cpu")


def test_stamps_are_split(stamps: Path, tmp_path: Path):
    train, test = (load_stamps(stamps, part) for part in ("train", "test"))
    assert len(train) == 12 and len(test) == 6
    assert not {s.path for s in train} & {s.path for s in test}
    assert {s.label for s in train} == {s.label for s in test} == set(range(1, len(CLASSES)))
    # Cut to where they cover by half.
    assert train[0].image.size < (40, 48)
    with pytest.raises(TrainingError, match="apt-get install tuxpaint-stamps-default"):
        load_stamps(tmp_path, "train")


def test_composites_by_pillow(stamps: Path):
    """The same arrangement pasted by Pillow, its mask drawn with the same alpha."""
    photo = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    loaded = load_stamps(stamps, "train")
    placed = [
        item for seed in range(4) for item in place(loaded, 160, 120, np.random.default_rng(seed))
    ]
    assert any(p.flip for p in placed) and any(p.left < 0 or p.top < 0 for p in placed)
    picture, labels = paste(photo, placed)
    wanted, mask = Image.fromarray(photo), Image.new("L", (160, 120))
    for item in placed:
        stamp = item.stamp.image.resize(item.size, Image.Resampling.BICUBIC)
        if item.flip:
            stamp = stamp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        alpha = stamp.getchannel("A")
        wanted.paste(stamp.convert("RGB"), (item.left, item.top), alpha)
        covers = alpha.point(lambda value: 255 * (value >= 128))
        mask.paste(item.stamp.label, (item.left, item.top), covers)
    assert np.array_equal(labels, np.asarray(mask))
    assert 0 < (labels > 0).mean() < 1
    assert np.abs(picture.astype(int) - np.asarray(wanted)).max() <= len(placed) // 2 + 1


def test_test_composites_have_unseen_stamps_whatever_the_seed(stamps: Path, photos: Path):
    one, two = (SegRecipe({"stamps": stamps}, seed=seed) for seed in (0, 1))
    test = one.dataset(photos, "test", None)
    assert isinstance(test, Composites)
    unseen = {s.path for s in load_stamps(stamps, "test")}
    assert {s.path for s in test.stamps} == unseen
    assert not unseen & {s.path for s in one.dataset(photos, "train", 64).stamps}
    assert not unseen & {s.path for s in one.dataset(photos, "val", None).stamps}
    for a, b in zip(test, two.dataset(photos, "test", None), strict=True):
        assert np.array_equal(a.image, b.image)
    first, other = (r.dataset(photos, "train", 64)[0] for r in (one, two))
    assert not np.array_equal(first.image, other.image)


def test_scores_by_counting():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 8, 8, generator=random)
    mask = torch.randint(0, 3, (2, 8, 8), generator=random)
    mask[0, 0] = 255
    found = intersections_and_unions(logits, mask)
    guess, counted = logits.argmax(1), mask != 255
    for row, label in itertools.product(range(2), range(3)):
        said, is_ = (m[row][counted[row]] == label for m in (guess, mask))
        assert found[row, label] == (said & is_).sum()
        assert found[row, 3 + label] == (said | is_).sum()
    totals = found.sum(0)
    assert mean_iou(totals) == pytest.approx((totals[:3] / totals[3:]).mean().item())
    assert mean_iou(torch.tensor([3.0, 0, 0, 6, 0, 2])) == 0.25  # the second class never occurs
    pixels = -logits.log_softmax(1).gather(1, mask.clamp_max(2)[:, None])[:, 0]
    wanted = torch.stack([p[c].mean() for p, c in zip(pixels, counted, strict=True)])
    assert torch.allclose(cross_entropy(logits, mask), wanted)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite2"])
def test_heads_that_come_with_the_package(name):
    path = HEADS / f"{name}.safetensors"
    assert path.stat().st_size <= 2 * 2**20
    model = load_head(path)
    assert model.config.backbone == name
    assert model.config.classes == tuple(CLASSES)
    assert not any(p.requires_grad for p in model.backbone.parameters())


def test_a_head_is_trained_stored_and_loaded(photos: Path, stamps: Path, tmp_path, monkeypatch):
    out = tmp_path / "head.safetensors"
    command = ["train_head", "--data", str(photos), "--test", str(photos), "--stamps", str(stamps),
               "--out", str(out), "--hours", "0.0006", "--batch", "2", "--crop", "64"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    torch.manual_seed(0)
    fresh = Segmenter(HeadConfig(backbone="efficientnet-lite0", classes=tuple(CLASSES)))
    train_head.main()
    recipe = SegRecipe({"model": str(out), "judge": None, "stamps": stamps})
    recipe.setup(CPU)
    batch = collate([recipe.dataset(photos, "test", None)[0]], torch.ones(1))
    trained = recipe.task_loss(batch.images, batch).item()
    recipe.model = fresh.eval()
    assert trained < recipe.task_loss(batch.images, batch).item()
    # Half precision is all that storing changes.
    save_head(load_head(out), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == out.read_bytes()


def test_files_that_are_no_head(tmp_path: Path):
    path = tmp_path / "head.safetensors"
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        load_head(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="no key 'mpa' in its metadata"):
        load_head(path)
    config = HeadConfig(backbone="efficientnet-lite0", classes=("a", "b"))
    save_file({"a": torch.zeros(1)}, path, metadata={"mpa": config.model_dump_json()})
    with pytest.raises(CheckpointError, match="do not fit its own configuration"):
        load_head(path)


class TwoOutputs(torch.nn.Module):
    """Logits by colour: class 0 is dark, class 1 light."""

    def forward(self, x):
        light = x.mean(1, keepdim=True) * 8 - 4
        logits = torch.cat([-light, light], 1)
        return {"out": logits, "aux": logits / 2}


def test_readers_loss_is_the_divergence_at_each_pixel(recipes, cat, noisy):
    """Against torch's, for a network of ours and for one with two outputs."""
    from torch.distributions import Categorical, kl_divergence

    other = SegRecipe({"judge": None})
    other.model = TwoOutputs()
    good = cat[..., 40:111, 80:173]
    bad = noisy(good, 0.1)
    for recipe, output in ((recipes["seg"], lambda out: out), (other, lambda out: out["out"])):
        with torch.no_grad():
            said = [output(recipe.model(x)).movedim(1, -1) for x in (good, bad)]
            found = recipe.reader_loss(good)(bad)
        wanted = kl_divergence(*(Categorical(logits=logits) for logits in said)).mean((1, 2))
        assert found.shape == (1,)
        assert found.item() == pytest.approx(wanted.item(), rel=1e-3)
        assert found.item() > 0


def test_any_network_and_masks_from_files(sample, tmp_path: Path, monkeypatch):
    """Labels 1 and 2 in the files, 0 where there is none, as in ADE20K."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_networks.py").write_text(
        f"import sys\nbuild = sys.modules[{__name__!r}].TwoOutputs\nnone = dict\n", encoding="utf-8"
    )
    photos, masks = tmp_path / "images" / "training", tmp_path / "annotations"
    (photos / "inner").mkdir(parents=True)
    (masks / "training" / "inner").mkdir(parents=True)
    photo = sample.crop((80, 40, 240, 168))
    photo.save(photos / "inner" / "a.png")
    truth = np.where(np.asarray(photo).mean(2) > 127.5, 2, 1).astype(np.uint8)
    truth[:8] = 0
    Image.fromarray(truth).save(masks / "training" / "inner" / "a.png")
    settings = {"model": "my_networks:build", "judge": None, "masks": masks, "first_label": 1}
    recipe = SegRecipe(settings)
    recipe.setup(CPU)
    (whole,) = recipe.dataset(photos, "test", None)
    assert np.array_equal(whole.image, np.asarray(photo))
    batch = collate([whole], torch.ones(1))
    metric = recipe.metrics()["miou"]
    assert metric.value(metric.per_picture(batch.images, batch)[0]) == 1.0
    crops = recipe.dataset(photos, "train", 64)
    assert len(crops) == 4
    for crop in crops:
        mask = crop.target["mask"].numpy()
        light = crop.image.mean(2) > 127.5
        assert np.array_equal(mask[mask != 255], light[mask != 255])
    # The same crops as without masks, so that paths can share their latents.
    plain = Recipe(data=recipe.data).dataset(photos, "train", 64)
    assert [crop.image.tobytes() for crop in crops] == [crop.image.tobytes() for crop in plain]
    out = recipe.model(batch.images)
    mask = batch.targets["mask"]
    wanted = cross_entropy(out["out"], mask) + 0.4 * cross_entropy(out["aux"], mask)
    assert torch.allclose(recipe.task_loss(batch.images, batch), wanted)
    with pytest.raises(ConfigError, match=r"has 2 classes and the masks have label 254|label 2"):
        other = SegRecipe({**settings, "first_label": 0})
        other.setup(CPU)
        other.task_loss(batch.images, collate(other.dataset(photos, "test", None), torch.ones(1)))
    with pytest.raises(ConfigError, match="gave dict; expected a factory of a torch module"):
        SegRecipe({"model": "my_networks:none"}).setup(CPU)
    with pytest.raises(ConfigError, match="cannot be imported"):
        SegRecipe({"model": "my_networks:nothing"}).setup(CPU)
    with pytest.raises(ConfigError, match="expected one of efficientnet-lite0, efficientnet-lite2"):
        SegRecipe({"model": "pspnet"}).setup(CPU)
    (masks / "training" / "inner" / "a.png").unlink()
    with pytest.raises(TrainingError, match="no mask of it at"):
        recipe.dataset(photos, "test", None)


def test_stamps_keep_their_shape(stamps: Path):
    loaded = load_stamps(stamps, "train")
    assert all(isinstance(stamp, Stamp) for stamp in loaded)
    for item in place(loaded, 400, 400, np.random.default_rng(0)):
        width, height = item.stamp.image.size
        assert item.size[0] / item.size[1] == pytest.approx(width / height, rel=0.05)
        assert max(item.size) <= min(112, 1.5 * max(width, height)) + 1
        assert -item.size[0] < item.left < 400 and -item.size[1] < item.top < 400
