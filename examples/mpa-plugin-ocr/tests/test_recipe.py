"""The recipe: its loss, its metrics, its judges."""

from __future__ import annotations

import pytest
import torch
from mpa_plugin_ocr import tesseract
from mpa_plugin_ocr.judging import character_error_rate, errors, reader_judge
from mpa_plugin_ocr.recipe import OcrRecipe, some_lines
from mpa_plugin_ocr.tesseract import Tesseract
from torchvision.transforms.v2.functional import gaussian_blur

from mpa_core.errors import ConfigError, MissingDependencyError
from mpa_core.tasks import collate


@pytest.fixture(scope="module")
def batch(lettered):
    return collate(list(lettered), torch.tensor([3.0, 3.0]))


def test_the_loss_is_low_where_text_is_legible_and_has_a_gradient(recipe, batch):
    torch.manual_seed(0)
    clear = recipe.task_loss(batch.images, batch)
    torch.manual_seed(0)
    blurred = gaussian_blur(batch.images, [15, 15], [4.0, 4.0]).requires_grad_()
    loss = recipe.task_loss(blurred, batch)
    assert clear.shape == loss.shape == (2,)
    assert (loss > 10 * clear).all()
    loss.sum().backward()
    assert blurred.grad.isfinite().all()
    assert (blurred.grad.flatten(1).abs().amax(1) > 0).all()


def test_pictures_without_lines_cost_nothing(recipe, batch):
    empty = {name: torch.zeros_like(value) for name, value in batch.targets.items()}
    bare = type(batch)(batch.images, empty, batch.quality)
    assert recipe.task_loss(batch.images, bare).tolist() == [0, 0]
    statistics = recipe.metrics()["cer"].per_picture(batch.images, bare)
    assert not statistics.any()


def test_a_step_reads_as_many_lines_as_asked_for():
    boxes = torch.ones(2, 5, 5)
    boxes[1, 1:] = 0
    torch.manual_seed(0)
    drawn = [some_lines(boxes, 2)[..., 2].bool() for _ in range(20)]
    assert all(kept.sum(1).tolist() == [2, 1] and kept[1, 0] for kept in drawn)
    assert torch.stack(drawn).any(0)[0].all()
    assert torch.equal(some_lines(boxes, 9), boxes)


def test_splits_of_the_data(recipe, photos):
    crops = recipe.dataset(photos, "train", 128)
    assert len(crops) == 2 * recipe.data.crops_per_photo
    assert crops[0].image.shape == (128, 128, 3)
    shapes = {name: value.shape for name, value in crops[0].target.items()}
    assert shapes == {name: value.shape for name, value in crops[1].target.items()}
    other = OcrRecipe(seed=5)
    assert not (other.dataset(photos, "train", 128)[0].image == crops[0].image).all()
    for split in ("val", "test"):
        first, second = (each.dataset(photos, split, None)[0].image for each in (recipe, other))
        assert first.shape == (200, 300, 3)
        assert (first == second).all()


def test_errors_are_edits_and_spaces_do_not_count():
    assert errors(["abc", "12:30"], ["a b c", "12:30"]) == 0
    assert errors(["abc", "12:30"], ["axc", ""]) == 1 + 5
    assert errors(["abc"], ["abcde"]) == 2
    assert errors([], []) == 0


def test_the_error_rate_counts_characters_over_all_lines(recipe, batch, reader):
    metric = recipe.metrics()["cer"]
    assert not metric.higher_is_better
    assert metric.unit.symbol == "%"
    clear = metric.per_picture(batch.images, batch)
    characters = batch.targets["texts"].ne(0).sum((1, 2)).double()
    assert torch.equal(clear[:, 1], characters)
    assert metric.figure(clear.sum(0)) < 0.1
    grey = character_error_rate(reader_judge(reader), "x")
    nothing = grey.per_picture(torch.full_like(batch.images, 0.5), batch)
    assert grey.figure(nothing.sum(0)) == pytest.approx(1.0)


def test_tesseract_reads_each_line_for_itself(batch, drawn):
    if tesseract.shutil.which(tesseract.PROGRAM) is None:
        pytest.skip("the program tesseract is not installed")
    metric = character_error_rate(Tesseract(), "Tesseract")
    found = metric.per_picture(batch.images, batch)
    assert metric.figure(found.sum(0)) < 0.5
    # A line on which nothing is leaves the others in their places.
    lines = torch.full((3, 3, 48, 200), 1.0)
    lines[0], lines[2] = drawn("Lemon"), drawn("4207")
    first, _, last = Tesseract()(lines, torch.tensor([200.0, 96.0, 200.0]))
    assert (first, last) == ("Lemon", "4207")


def test_without_tesseract_it_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "")
    judged = OcrRecipe({"judge": "tesseract"})
    judged.setup(torch.device("cpu"))
    with pytest.raises(MissingDependencyError, match="apt-get install tesseract-ocr"):
        judged.metrics()


def test_a_program_that_reads_nothing_is_an_error(monkeypatch):
    monkeypatch.setattr(Tesseract, "__init__", lambda self: setattr(self, "program", "true"))
    with pytest.raises(ConfigError, match="read 0 of 1 lines"):
        Tesseract()(torch.rand(1, 3, 48, 80), torch.tensor([80.0]))
