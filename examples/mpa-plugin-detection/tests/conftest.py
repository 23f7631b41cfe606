"""Stamps, so that no test needs Tux Paint's: ellipses, each of its own colour and size."""

import numpy as np
import pytest
import torch
from mpa_plugin_detection.detector import Detector
from mpa_plugin_detection.stamps import FILES
from PIL import Image, ImageDraw


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def detector():
    return Detector()


@pytest.fixture(scope="session")
def stamps_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stamps")
    names = [name for files in FILES.values() for name in files]
    for number, name in enumerate(names):
        image = Image.new("RGBA", (60 + number, 110 - number))  # with a transparent border
        colour = (255, 3 * number, 255 - 3 * number, 255)
        ImageDraw.Draw(image).ellipse((5, 5, image.width - 9, image.height - 7), colour)
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return folder


@pytest.fixture(scope="session")
def photos_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number, size in enumerate([(352, 288), (224, 256)]):
        shades = np.linspace(0, 90, size[0] * size[1] * 3).reshape(size[1], size[0], 3)
        Image.fromarray((shades + number).astype(np.uint8)).save(folder / f"{number}.png")
    return folder
