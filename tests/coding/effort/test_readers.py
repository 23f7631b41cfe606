"""``reader``: files made for what a path shows, and for the task that reads it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import mpa_plugins.cls.recipe
from mpa_core import MPACodec
from mpa_core.coding.effort import tiles
from mpa_core.coding.effort.readers import as_weights
from mpa_core.coding.effort.tasks import ReaderTasks
from mpa_core.errors import ConfigError, MPAError, PathNotFoundError, PluginError
from mpa_core.io.distortion import psnr

Hook = Callable[[Tensor], Callable[[Tensor], Tensor] | None]


@pytest.fixture(scope="module")
def codec() -> MPACodec:
    codec = MPACodec.from_pretrained("mpa-small")
    codec.load_paths(["mse", "reading=cls"])
    return codec


@pytest.fixture(scope="module")
def picture(sample: Image.Image) -> Image.Image:
    """A piece of the bundled photo that is padded to 64 x 64."""
    return sample.convert("RGB").crop((130, 100, 190, 150))


@pytest.fixture(scope="module")
def wide(sample: Image.Image) -> Image.Image:
    """A piece that is padded to 128 x 64."""
    return sample.convert("RGB").crop((130, 100, 230, 150))


@pytest.fixture
def task(codec, monkeypatch) -> Callable[[Hook], None]:
    """Set the loss of what ``cls`` shows; its recipe needs no network then."""
    recipe = mpa_plugins.cls.recipe.ClsRecipe
    monkeypatch.setattr(codec, "_tasks", ReaderTasks())
    monkeypatch.setattr(recipe, "setup", lambda self, device: None)

    def put(hook: Hook) -> None:
        monkeypatch.setattr(recipe, "reader_loss", lambda self, images: hook(images), raising=False)

    return put


def left_half(images: Tensor) -> Callable[[Tensor], Tensor]:
    """A task that looks at the left half alone."""
    assert images.shape[-2] == 50  # without the padding
    assert not images.requires_grad

    def loss(x_hat: Tensor) -> Tensor:
        return (x_hat - images)[..., : images.shape[-1] // 2].square().mean((1, 2, 3))

    return loss


def test_main_is_what_no_reader_means(codec, picture):
    plain = codec.encode(picture, 4, effort=2)
    assert codec.encode(picture, 4, effort=2, reader="main") == plain
    assert codec.encode(picture, 4, effort=2, reader={"main": 7.0}) == plain


def test_a_path_without_a_task_gains_in_its_own_picture(codec, picture):
    """As much as a search for main gives it, and a little more, by bits and error together."""
    gains = {}
    sizes = {q: len(codec.encode(picture, q)) for q in (3.5, 4.5)}
    errors = {q: error(picture, codec.decode(codec.encode(picture, q), "mse")) for q in sizes}
    price = (sizes[4.5] - sizes[3.5]) / (errors[3.5] - errors[4.5])
    for reader in ("main", "mse"):
        data = codec.encode(picture, 4, effort=3, reader=reader)
        gains[reader] = -len(data) - price * error(picture, codec.decode(data, "mse"))
    assert gains["mse"] > gains["main"]


def error(picture: Image.Image, shown: Image.Image) -> float:
    return float(np.square(np.asarray(picture, float) - np.asarray(shown, float)).mean())


def test_a_task_counts(codec, wide, task):
    """The half that the task looks at leads the other by more than without the task."""

    def lead(data: bytes) -> float:
        shown = codec.decode(data, "reading")
        left, right = (
            psnr(wide.crop(box), shown.crop(box)) for box in ((0, 0, 50, 50), (50, 0, 100, 50))
        )
        return left - right

    task(lambda images: None)
    without = codec.encode(wide, 4, effort=3, reader="reading")
    codec._tasks = ReaderTasks()
    task(left_half)
    with_task = codec.encode(wide, 4, effort=3, reader="reading")
    assert lead(with_task) > lead(without) + 0.1
    assert codec.encode(wide, 4, effort=3, reader="reading") == with_task


def test_weights_count_relative_to_each_other(codec, picture, task):
    task(left_half)
    both, doubled, eye = (
        codec.encode(picture, 4, effort=1, reader=reader)
        for reader in (
            {"main": 1, "reading": 0.5},
            {"main": 2.0, "reading": 1.0},
            {"main": 5, "reading": 0.5},
        )
    )
    assert both == doubled != eye


def test_tiles_have_their_own_tasks(codec, wide, task, monkeypatch):
    monkeypatch.setattr(tiles, "WHOLE_PIXELS", 64 * 64)
    monkeypatch.setattr(tiles, "HALO", 32)
    seen = []

    def hook(images: Tensor) -> Callable[[Tensor], Tensor]:
        seen.append(tuple(images.shape))
        return lambda x_hat: (x_hat - images).square().mean((1, 2, 3))

    task(hook)
    data = codec.encode(wide, 4, effort=1, reader="reading")
    assert seen == [(1, 3, 50, 100)] * 2  # each tile of 64 has the halo of 64 beside it
    assert codec.decode(data, "reading").size == wide.size


def test_a_task_that_says_nothing_changes_nothing(codec, picture, task):
    """Its loss has no gradient, as that of a picture without any text."""
    task(lambda images: lambda x_hat: x_hat.sum((1, 2, 3)) * 0)
    data = codec.encode(picture, 4, effort=2, reader="reading")
    assert len(data) < 1.1 * len(codec.encode(picture, 4))


def test_a_loss_that_is_no_number_gives_the_plain_file(codec, picture, task):
    task(lambda images: lambda x_hat: x_hat.mean((1, 2, 3)) * float("nan"))
    plain = codec.encode(picture, 4)
    assert codec.encode(picture, 4, effort=1, reader="reading") == plain


def test_one_pixel(codec, task):
    task(lambda images: lambda x_hat: (x_hat - images).abs().mean((1, 2, 3)))
    dot = np.full((1, 1, 3), 200, np.uint8)
    data = codec.encode(dot, 3, effort=1, reader="reading")
    assert codec.decode(data).size == (1, 1)


def test_the_recipe_is_made_once_for_many_pictures(codec, picture, task, monkeypatch):
    task(left_half)
    made = []
    monkeypatch.setattr(
        mpa_plugins.cls.recipe.ClsRecipe, "setup", lambda self, device: made.append(device)
    )
    alone = codec.encode(picture, 4, effort=1, reader="reading")
    found = codec.encode_many([picture, picture], 4, effort=1, reader="reading")
    assert found == [alone, alone]
    assert made == [torch.device("cpu")]
    copy.deepcopy(codec).encode(picture, 4, effort=1, reader="reading")
    assert len(made) == 2


def test_a_reader_of_the_bundled_classifier(codec, picture):
    """The whole way, with the network: its answer on the picture is nearer to its answer before."""
    recipe = mpa_plugins.cls.recipe.ClsRecipe()
    recipe.setup(torch.device("cpu"))
    original = to_tensor(picture)
    loss = recipe.reader_loss(original)
    plain, made = (
        codec.encode(picture, 2, effort=4, reader=reader) for reader in ("main", "reading")
    )
    with torch.no_grad():
        before, after = (float(loss(to_tensor(codec.decode(d, "reading")))) for d in (plain, made))
    assert after < before


def to_tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize(
    ("reader", "words"),
    [
        ("seg", r"reader 'seg' is no path that is loaded \(known: main, mse, reading\); load it"),
        ({"main": 1, "det": 1}, "reader 'det' is no path"),
        ({3: 1}, "reader 3 is no path"),
    ],
)
def test_a_reader_that_is_not_loaded(codec, picture, reader, words):
    with pytest.raises(PathNotFoundError, match=words):
        codec.encode(picture, 4, effort=1, reader=reader)


@pytest.mark.parametrize(
    ("reader", "words"),
    [
        ({}, "reader is a mapping without names, expected a name"),
        (3, "reader is 3, expected a name"),
        ({"mse": 0}, "reader 'mse' has the weight 0, expected"),
        ({"mse": -1.0}, "reader 'mse' has the weight -1.0"),
        ({"mse": float("inf")}, "has the weight inf"),
        ({"mse": float("nan")}, "has the weight nan"),
        ({"mse": "1"}, "has the weight '1'"),
        ({"mse": True}, "has the weight True"),
    ],
)
def test_a_wrong_reader(codec, picture, reader, words):
    with pytest.raises(ConfigError, match=words):
        codec.encode(picture, 4, effort=1, reader=reader)


def test_a_reader_needs_an_effort(codec, picture):
    with pytest.raises(ConfigError, match="reader is given, but effort is 0"):
        codec.encode(picture, 4, reader="mse")


def test_weights_sum_to_1_however_large():
    loaded = ("cls", "mse")
    assert as_weights({"main": 1, "cls": 0.5}, loaded) == pytest.approx(
        {"main": 2 / 3, "cls": 1 / 3}
    )
    assert as_weights({"main": 1e308, "cls": 1e308}, loaded) == {"main": 0.5, "cls": 0.5}


def fails(images: Tensor) -> Callable[[Tensor], Tensor]:
    raise ValueError("no colours")


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        (fails, r"recipe of 'cls' \(.*\): reader_loss\(\) failed: ValueError: no colours"),
        (lambda images: 3, r"reader_loss\(\) returned 3, expected a function"),
        (lambda images: lambda x_hat: 3.0, r"the function of reader_loss\(\) returned 3.0"),
        (lambda images: lambda x_hat: x_hat.mean(), r"returned \(\), expected .* of shape \(1,\)"),
        (
            lambda images: lambda x_hat: x_hat[:, 9],
            r"the function of reader_loss\(\) failed: Index",
        ),
    ],
)
def test_a_plugin_that_fails(codec, picture, task, hook, words):
    task(hook)
    with pytest.raises(PluginError, match=words) as caught:
        codec.encode(picture, 4, effort=1, reader="reading")
    assert "\n" not in str(caught.value)
    (one,) = codec.encode_many([picture], 4, effort=1, reader="reading")
    assert isinstance(one, MPAError)
