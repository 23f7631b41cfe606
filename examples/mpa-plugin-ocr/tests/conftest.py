"""What the tests share: fonts, photos with text on them, and the recogniser."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mpa_plugin_ocr.finder import Finder
from mpa_plugin_ocr.fonts import find_fonts
from mpa_plugin_ocr.lettering import Lettered
from mpa_plugin_ocr.reader import Reader
from mpa_plugin_ocr.recipe import OcrRecipe
from PIL import Image, ImageDraw, ImageFont

from mpa_core.errors import MissingDependencyError
from mpa_core.tasks import WholePhotos, freeze, package_file


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def reader():
    return freeze(Reader())


@pytest.fixture(scope="session")
def finder():
    return freeze(Finder())


@pytest.fixture(scope="session")
def recipe():
    made = OcrRecipe()
    made.setup(torch.device("cpu"))
    return made


@pytest.fixture(scope="session")
def rapidocr():
    """A function: name of a file of the package's models -> where it is; skips without it."""

    def file(name):
        try:
            return package_file("rapidocr_onnxruntime", f"models/{name}", "rapidocr-onnxruntime")
        except MissingDependencyError as error:
            pytest.skip(str(error))

    return file


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Two pictures of smooth colours, on which text can be read."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(2):
        coarse = np.random.default_rng(number).integers(0, 256, (4, 6, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((300, 200), Image.Resampling.BICUBIC).save(
            folder / f"{number}.png"
        )
    return folder


@pytest.fixture(scope="session")
def lettered(photos):
    return Lettered(WholePhotos(photos), find_fonts(None, "train"), seed=0, area=10_000)


@pytest.fixture(scope="session")
def drawn():
    """A function: text -> its picture as a line [1, 3, 48, 200] in [0, 1]."""

    def draw(text):
        image = Image.new("RGB", (200, 48), "white")
        ImageDraw.Draw(image).text((6, 4), text, font=ImageFont.load_default(32), fill="navy")
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255

    return draw
