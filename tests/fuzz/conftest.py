"""What the tests of this folder share: the mutators of ``examples/fuzz``, and one real file."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpa_core import MPACodec

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "fuzz"))


@pytest.fixture(scope="session")
def tiny() -> MPACodec:
    """A codec with random weights, small enough to decode thousands of files."""
    return MPACodec.from_preset("mpa-tiny")


@pytest.fixture(scope="session")
def real_file(tiny: MPACodec, sample: Image.Image) -> bytes:
    """An ``.mpa`` file of 24 x 20 pixels, with a little metadata."""
    picture = np.asarray(sample)[100:120, 150:174]
    return tiny.encode(picture, 4.5, exif=b"II*\0\x08\0\0\0\0\0\0\0\0\0")
