"""What the SDK hands out can be trained on, whatever mode of autograd it was asked for in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mpa_core import Mix, MPACodec, checkpoints
from mpa_core.io.images import to_rgb_tensor

MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "plain": nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}


@pytest.fixture(scope="module")
def picture(sample) -> Image.Image:
    return sample.crop((100, 60, 228, 124))


@pytest.fixture
def load(tiny_base, tiny_cls_path) -> Callable[[], MPACodec]:
    def call() -> MPACodec:
        codec = MPACodec.from_pretrained(tiny_base)
        codec.load_path(tiny_cls_path)
        return codec

    return call


@pytest.fixture(params=MODES)
def mode(request) -> Callable[[], AbstractContextManager[Any]]:
    """What the user is in."""
    return MODES[request.param]


def tensors(thing: object) -> Iterator[Tensor]:
    """All tensors in ``thing``."""
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, nn.Module):
        yield from (*thing.parameters(), *thing.buffers())
    elif isinstance(thing, dict):
        yield from (found for value in thing.values() for found in tensors(value))
    elif isinstance(thing, (list, tuple)):
        yield from (found for value in thing for found in tensors(value))
    elif hasattr(thing, "__dict__"):
        yield from tensors(vars(thing))


def assert_trains(module: nn.Module, x_hat: Tensor) -> None:
    """One step of training towards ``x_hat``."""
    for parameter in module.parameters():
        parameter.grad = None
    before = [parameter.detach().clone() for parameter in module.parameters()]
    x_hat.square().mean().backward()
    torch.optim.SGD(module.parameters(), lr=1e-3).step()
    after = list(module.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("mix", [None, Mix(cls=1.0), Mix(cls=0.5)], ids=repr)
@pytest.mark.parametrize("profile", ["exact", "float"])
def test_a_step_on_a_decoded_picture(load, mode, picture, mix, profile):
    codec = load()
    with mode():
        data = codec.encode(picture, profile=profile)
        decoded = codec.decode(data, mix, output="tensor")
    assert not decoded.is_inference() and not decoded.requires_grad
    net = nn.Conv2d(3, 4, 3)
    assert_trains(net, net(decoded[None]))
    decoded.mul_(2)  # in place, too


def test_a_step_of_a_path_on_decoded_latents(load, mode, picture):
    codec = load()
    data = codec.encode(picture)
    with mode():
        coded = codec.open(data)
        y_hat = coded.latents()
        again = coded.latents()
    assert not y_hat.is_inference()
    quality = codec.model.base.quality(coded.quality, y_hat)
    x_hat = codec.model.reconstruct(y_hat, quality, "cls")
    assert_trains(codec.model.paths["cls"], x_hat)
    y_hat.zero_()  # it is a copy
    assert torch.equal(coded.latents(), again) and again.any()


@pytest.mark.parametrize("mix", [None, Mix(cls=0.5)], ids=repr)
def test_a_step_on_rendered_pictures(load, mode, picture, mix):
    """Also where the latents were decoded in another mode than the picture is rendered in."""
    codec = load()
    coded = codec.open(codec.encode(picture))
    with mode():
        first = coded.render(mix, output="tensor")
    second = coded.render(mix, output="tensor")
    with mode():
        files = codec.encode_many([picture, picture])
        (a, b) = together = codec.decode_many(files, mix, output="tensor")
        unlike = codec.decode_many(
            [files[0], codec.encode(picture.resize((9, 9)))], output="tensor"
        )
    assert isinstance(unlike, list)
    net = nn.Conv2d(3, 4, 3)
    for x_hat in (first, second, together, a, b, *unlike):
        assert not x_hat.is_inference() and not x_hat.requires_grad
        assert_trains(net, net(x_hat))
    together.mul_(2)


def test_a_step_on_what_the_model_hands_out(load, mode, picture):
    model = load().model
    x = to_rgb_tensor(picture).tensor
    with mode():
        coded = model.compress(x, 4.5)
        decoded = model.decompress(**coded, quality=4.5, mix=Mix(cls=0.5))
        latents = model.decode_latents(**coded, quality=4.5)
    assert not any(tensor.is_inference() for tensor in tensors((decoded, latents)))
    net = nn.Conv2d(3, 4, 3)
    assert_trains(net, net(decoded["x_hat"]))


def test_forward_is_the_callers(load, picture):
    """It is training's own call, and keeps to the caller's mode; nothing of it is left behind."""
    model = load().model
    x = to_rgb_tensor(picture).tensor
    with torch.inference_mode():
        assert model(x, 4.5)["x_hat"].is_inference()
    assert not any(tensor.is_inference() for tensor in tensors(model))
    assert_trains(model.base, model(x, 4.5)["x_hat"])


LOADED: dict[str, Callable[[Path, Path], object]] = {
    "from_pretrained": lambda base, _: MPACodec.from_pretrained(base).model,
    "from_preset": lambda *_: MPACodec.from_preset("mpa-tiny").model,
    "moved": lambda base, _: MPACodec.from_pretrained(base).to("cpu").model,
    "load_base": lambda base, _: checkpoints.load_base(base),
    "checkpoints.load_path": lambda _, path: checkpoints.load_path(path),
    "profiles": lambda base, _: MPACodec.from_pretrained(base).profiles.precise(),
}


@pytest.mark.parametrize("what", LOADED)
def test_what_is_loaded_is_normal(what, tiny_base, tiny_cls_path, mode):
    with mode():
        loaded = LOADED[what](tiny_base, tiny_cls_path)
    found = list(tensors(loaded))
    assert found and not any(tensor.is_inference() for tensor in found)


@pytest.mark.parametrize("source", ["from_pretrained", "from_preset"])
def test_a_base_that_was_loaded_in_any_mode_trains(source, tiny_base, tiny_cls_path, mode, picture):
    with mode():
        model = LOADED[source](tiny_base, tiny_cls_path)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert_trains(model.base, model.train()(to_rgb_tensor(picture).tensor, 4.5)["x_hat"])
    model.load_state_dict(LOADED[source](tiny_base, tiny_cls_path).state_dict())


def test_a_path_that_was_loaded_in_any_mode_trains(tiny_base, tiny_cls_path, mode, picture):
    codec = MPACodec.from_pretrained(tiny_base)
    with mode():
        codec.load_path(tiny_cls_path)
    path = codec.model.paths["cls"]
    assert all(parameter.requires_grad for parameter in path.parameters())
    x = to_rgb_tensor(picture).tensor
    assert_trains(path, codec.model(x, 4.5, Mix(cls=1.0))["x_hat"])


def test_tables_that_were_computed_in_any_mode(tiny_base, mode):
    model = MPACodec.from_pretrained(tiny_base).model
    with mode():
        model.update()
    assert not any(tensor.is_inference() for tensor in tensors(model))


@pytest.mark.parametrize("size", [(128, 64), (61, 33)])
@pytest.mark.parametrize("reproducible", [False, True])
def test_made_on_first_use_in_any_mode(load, mode, picture, size, reproducible):
    """Networks of the exact profile, tables and rows: kept, and good for every mode after."""
    part = picture.resize(size)
    codec = load()
    expected = codec.encode(part, 3.3, reproducible=reproducible)
    fresh = load()
    with mode():
        x = to_rgb_tensor(part).tensor  # where the mode is inference, an inference tensor
        assert x.is_inference() == (mode is torch.inference_mode)
        assert fresh.encode(x, 3.3, reproducible=reproducible) == codec.encode(
            x, 3.3, reproducible=reproducible
        )
        shown = fresh.decode(expected, output="tensor")
    assert fresh.encode(part, 3.3, reproducible=reproducible) == expected
    assert torch.equal(fresh.decode(expected, output="tensor"), shown)
    assert fresh.encode(x, 3.3, reproducible=reproducible)
    assert not any(tensor.is_inference() for tensor in tensors(fresh.profiles))


def test_coding_builds_no_graph(load, picture):
    """Of a picture that asks for gradients, neither."""
    codec = load()
    x = to_rgb_tensor(picture).tensor.requires_grad_()
    decoded = codec.decode(codec.encode(x), Mix(cls=0.5), output="tensor")
    assert decoded.grad_fn is None and torch.is_grad_enabled()
    with torch.inference_mode():
        codec.decode(codec.encode(picture))
        assert torch.is_inference_mode_enabled() and not torch.is_grad_enabled()
