"""The bundled weights: found by name, bits unchanged, nearer to the original for the detector."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mpa_plugin_detection.recipe import DetectionRecipe

import mpa_core
from mpa_core import MPACodec
from mpa_core.tasks import PathBatch, load_image, to_tensor

PHOTO = Path(mpa_core.__file__).parent / "assets" / "chelsea.png"


@pytest.fixture(scope="module")
def image():
    return load_image(PHOTO).convert("RGB").crop((100, 20, 356, 276))


@pytest.fixture(scope="module")
def codec():
    return MPACodec.from_pretrained("mpa-small")


@pytest.fixture(scope="module")
def plain(codec, image):
    """Files of two qualities and what the main path makes of them, before any path is loaded."""
    files = [codec.encode(image, quality=quality) for quality in (2, 4)]
    return {data: codec.decode(data, output="tensor") for data in files}


@pytest.fixture(scope="module")
def loaded(codec, plain):
    codec.load_path("detection")
    return codec


def test_files_and_the_main_path_are_as_without_it(loaded, plain, image):
    for quality, (data, main) in zip((2, 4), plain.items(), strict=True):
        assert loaded.encode(image, quality=quality) == data
        assert torch.equal(loaded.decode(data, output="tensor"), main)


def test_its_pictures_are_nearer_for_the_detector_than_the_main_path_s(loaded):
    """Each from quality 3 on, and by a tenth over three views of the photo and three qualities."""
    recipe = DetectionRecipe({"stamps": None})
    recipe.setup(torch.device("cpu"))
    losses = {"detection": 0.0, "main": 0.0}
    for left in (0, 100, 195):
        view = load_image(PHOTO).convert("RGB").crop((left, 20, left + 256, 276))
        batch = PathBatch(to_tensor(np.array(view)[None]), {}, torch.tensor([4.0]))
        for quality in (2, 3, 4):
            coded = loaded.open(loaded.encode(view, quality=quality))
            here = {}
            for path in losses:
                x_hat = coded.render(path, output="tensor").view_as(batch.images)
                here[path] = recipe.task_loss(x_hat, batch).item()
                losses[path] += here[path]
            assert quality < 3 or here["detection"] < here["main"]
    assert losses["detection"] < 0.9 * losses["main"]
