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


def test_its_picture_is_nearer_for_the_detector_than_the_main_path_s(loaded, plain, image):
    recipe = DetectionRecipe({"stamps": None})
    recipe.setup(torch.device("cpu"))
    batch = PathBatch(to_tensor(np.array(image)[None]), {}, torch.tensor([4.0]))
    for data, main in plain.items():
        seen = loaded.decode(data, "detection", output="tensor")
        losses = [recipe.task_loss(x.view_as(batch.images), batch).item() for x in (seen, main)]
        assert losses[0] < 0.9 * losses[1]
