"""Cut-outs of photographed objects, by class: the stamps of Tux Paint, as Debian packages them.

They are under the GPL, version 2, so none is in this repository.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mpa_core.errors import TrainingError
from mpa_core.tasks import is_hidden

STAMPS = "/usr/share/tuxpaint/stamps"
"""Folder in which Debian's package installs them."""

CLASSES: dict[str, tuple[str, ...]] = {
    "background": (),
    "bird": ("animals/birds/*.png",),
    "mammal": (
        "animals/mammals/*.png",
        *(
            f"animals/mammals/{kind}/*.png"
            for kind in ("apes", "bears", "bovines", "camel", "cats", "deer", "dogs", "equines")
        ),
        "animals/mammals/rodents/*.png",
        "animals/marsupials/*.png",
    ),
    "flower": ("plants/flowers/*.png",),
    "food": ("food/fruit/*.png", "food/vegetables/*.png", "food/nuts/*.png"),
    "coin": ("symbols/money/*/coins/*.png",),
    "sign": ("town/roadsigns/*.png",),
}
"""By class, in the order of its number: patterns of its files below the stamps' folder."""

NOT_PHOTOS = frozenset({"hedgehog", "kangaroo-silo", "echidna"})
"""Names of drawings and silhouettes in the folders above."""

LARGEST = 256
"""Largest side in pixels at which stamps are kept."""

HELD_OUT = 3
"""Every third stamp of a class is for tests alone."""


@dataclass(frozen=True)
class Stamp:
    """One cut-out."""

    path: Path
    label: int
    """Number of its class in :data:`CLASSES`."""
    image: Image.Image
    """RGBA, cropped to its visible part."""


def load_stamps(folder: Path, part: Literal["train", "test"]) -> list[Stamp]:
    """Return the stamps of all classes below ``folder`` that are for training, or for tests alone.

    Raises:
        TrainingError: a class has fewer than :data:`HELD_OUT` stamps.
    """
    stamps: list[Stamp] = []
    for label, (name, patterns) in enumerate(CLASSES.items()):
        if not patterns:
            continue
        paths = sorted({path for pattern in patterns for path in folder.glob(pattern)})
        paths = [path for path in paths if _is_photo(path)]
        if len(paths) < HELD_OUT:
            raise TrainingError(
                f"{folder}: {len(paths)} stamps of class {name} in it, expected the folder of Tux "
                "Paint's stamps; install them (apt-get install tuxpaint-stamps-default), or give "
                "their folder as recipe.stamps"
            )
        for number, path in enumerate(paths):
            if (number % HELD_OUT == HELD_OUT - 1) == (part == "test"):
                stamps.append(Stamp(path, label, _read(path)))
    return stamps


def _is_photo(path: Path) -> bool:
    if is_hidden(path.name):
        return False
    return path.stem not in NOT_PHOTOS and not path.stem.endswith("_mirror")


def _read(path: Path) -> Image.Image:
    with Image.open(path) as file:
        image = file.convert("RGBA")
    # Almost transparent fringes would make the cut-out larger than its visible part.
    visible = image.getchannel("A").point(lambda value: 255 if value >= 128 else 0).getbbox()
    image = image.crop(visible)
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return image


def as_array(image: Image.Image) -> NDArray[np.uint8]:
    """Convert an RGBA picture to [H, W, 4] uint8."""
    return np.asarray(image, dtype=np.uint8)
