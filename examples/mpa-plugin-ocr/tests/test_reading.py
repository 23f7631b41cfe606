"""The loss by which files are made for the recogniser: what it sees, and what it does not."""

from __future__ import annotations

import pytest
import torch
from mpa_plugin_ocr.finder import Finder
from mpa_plugin_ocr.reading import COLUMNS, Readings, _parts
from torchvision.transforms.v2.functional import gaussian_blur


@pytest.fixture(scope="module")
def images(lettered):
    """One picture with lines of text, and one without."""
    written = torch.from_numpy(lettered[0].image).permute(2, 0, 1)[None] / 255
    return torch.cat([written, torch.full_like(written, 0.5)])


@pytest.fixture(scope="module")
def loss(recipe, images):
    return recipe.reader_loss(images)


def test_it_is_nothing_on_the_original_and_grows_with_the_damage(loss, images):
    assert loss.lines(0) >= 3
    assert loss(images).tolist() == [0, 0]
    blurred = [loss(gaussian_blur(images, [15, 15], [s, s]))[0] for s in (0.7, 1.5, 4.0)]
    assert 0 < blurred[0] < blurred[1] < blurred[2]
    assert blurred[2] > 2


def test_its_gradient_lies_where_text_is_and_is_0_without(loss, images, lettered):
    shown = gaussian_blur(images, [9, 9], [1.5, 1.5]).requires_grad_()
    found = loss(shown)
    assert found.shape == (2,)
    found.sum().backward()
    pull = shown.grad.abs().sum(1)
    assert not pull[1].any()
    boxes = lettered[0].target["boxes"]
    near = torch.zeros_like(pull[0])
    for x, y, width, height, _ in boxes[boxes[:, 2] > 0].tolist():
        reach = [width / 2 + 4, height / 2 + 4]
        left, top, right, bottom = x - reach[0], y - reach[1], x + reach[0], y + reach[1]
        near[max(0, int(top)) : int(bottom), max(0, int(left)) : int(right)] = 1
    assert near.mean() < 0.6
    assert (pull[0] * near).sum() > 0.99 * pull[0].sum()


def test_its_gradient_is_that_of_its_value(loss, images):
    shown = gaussian_blur(images, [9, 9], [1.0, 1.0])[:1].requires_grad_()
    whole = sum(loss.losses(0, shown))
    (wanted,) = torch.autograd.grad(whole, shown)
    both = torch.cat([shown, images[1:]])
    (found,) = torch.autograd.grad((loss(both) * torch.tensor([3.0, 1.0])).sum(), shown)
    torch.testing.assert_close(found, 3 * wanted)
    torch.testing.assert_close(loss(both.detach())[0], whole.detach())


def test_steps_along_its_gradient_lower_it(loss, images):
    shown = gaussian_blur(images[:1], [9, 9], [1.5, 1.5])
    first = shown.clone().requires_grad_()
    search = torch.optim.Adam([first], lr=0.01)
    values = []
    for _ in range(6):
        search.zero_grad()
        value = loss(torch.cat([first, images[1:]])).sum()
        value.backward()
        search.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.75 * values[0]


@pytest.mark.parametrize("size", [(1, 1), (31, 77)])
def test_odd_pictures_without_text_have_a_gradient_of_zeros(recipe, size):
    images = torch.full((1, 3, *size), 0.4)
    shown = (images + 0.1).requires_grad_()
    found = recipe.reader_loss(images)(shown)
    found.sum().backward()
    assert found.tolist() == [0]
    assert shown.grad is not None and not shown.grad.any()


def test_what_cannot_be_read_on_the_original_does_not_count(reader, drawn):
    torch.manual_seed(0)
    pictures = torch.cat([drawn("Lemon"), torch.rand(1, 3, 48, 200)])
    boxes = torch.tensor([[[100.0, 24, 200, 48, 0]]]).expand(2, -1, -1)
    found = Readings(reader, pictures, boxes, feature_weight=1.0)
    assert (found.lines(0), found.lines(1)) == (1, 0)


def test_the_distance_of_features_has_its_weight(images, recipe, reader):
    boxes = Finder()(images)
    shown = gaussian_blur(images, [9, 9], [1.5, 1.5])
    values = [
        Readings(reader, images, boxes, feature_weight=weight)(shown)[0] for weight in (0, 1, 3)
    ]
    assert values[0] < values[1] < values[2]
    torch.testing.assert_close(values[2] - values[0], 3 * (values[1] - values[0]))


def test_lines_are_read_in_parts_of_like_width():
    widths = torch.tensor([100.0, 700, 90, 3000, 110, 650, 80])
    boxes = torch.zeros(7, 5)
    boxes[:, 2], boxes[:, 3] = widths, 48
    parts = [part[0, :, 2].tolist() for part in _parts(boxes)]
    assert parts == [[80, 90, 100, 110], [650, 700], [3000]]
    assert all(len(part) * max(part) <= COLUMNS or len(part) == 1 for part in parts)
    assert list(_parts(boxes[:0])) == []
