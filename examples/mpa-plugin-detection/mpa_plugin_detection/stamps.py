"""Photographic cut-outs of things that the detector knows: stamps of Tux Paint, from Debian.

They are under the GPL, version 2, so none is in this repository.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from mpa_core.errors import TrainingError
from mpa_plugin_detection.classes import CLASSES

STAMPS = "/usr/share/tuxpaint/stamps"
"""Where Debian's package ``tuxpaint-stamps-default`` puts them."""

LARGEST = 320
"""Stamps are kept at no more pixels a side than this."""

_BIRDS = (
    "albino_peahen blackbird chicken_profile crow crowned_crane cuckoo drake duck gander "
    "guineafowl helmeted_guineafowl hen heron_greatblue heron_greatblue_flying lark little-penguin "
    "magellanic_penguin magpie nandou ostrich owl peacock pelican penguin pigeon pink_flamingo "
    "quetzal rainbow-lorikeet rooster seagull silver-gull tucan turkey vulture adelaide-rosella"
)
FILES: dict[str, tuple[str, ...]] = {
    "airplane": ("vehicles/flight/planes/747",),
    "apple": tuple(
        f"food/fruit/apple_{kind}"
        for kind in ("fuji", "granny_smith", "green", "red", "sierra_beauty")
    ),
    "banana": ("food/fruit/banana",),
    "bear": ("animals/mammals/bears/bear", "animals/mammals/bears/european-bear"),
    "bird": tuple(f"animals/birds/{name}" for name in sorted(_BIRDS.split())),
    "broccoli": ("food/vegetables/broccoli",),
    "bus": ("vehicles/masstransit/green_korean_bus",),
    "car": (
        "vehicles/auto/beetle",
        "vehicles/auto/sedan",
        "vehicles/auto/sportscar2",
        "vehicles/emergency/sedan_police",
    ),
    "carrot": ("food/vegetables/carrot",),
    "cow": tuple(
        f"animals/mammals/bovines/{name}" for name in ("bull", "cow", "cow_white", "zebu")
    ),
    "cup": ("household/dishes/mug",),
    "dog": ("animals/mammals/dogs/dingo", "animals/mammals/dogs/dog"),
    "elephant": ("animals/mammals/elephant",),
    "giraffe": ("animals/mammals/giraffe",),
    "horse": ("animals/mammals/equines/horse",),
    "orange": ("food/fruit/mandarine", "food/fruit/orange", "food/fruit/orange_seville"),
    "scissors": (
        "household/arttools/scissors_small_closed",
        "household/arttools/scissors_small_open",
    ),
    "sheep": tuple(f"animals/mammals/bovines/{name}" for name in ("ram", "sheep", "sheep_lamb")),
    "sports ball": tuple(
        f"sports/{name}" for name in ("basketball", "cricketball", "soccer", "tennis_ball")
    ),
    "stop sign": ("town/roadsigns/stop",),
    "teddy bear": ("animals/mammals/bears/toys/edward_bear",),
    "tennis racket": ("sports/tennis_racket",),
    "toilet": ("household/toilet",),
    "traffic light": (
        "town/roadsigns/stoplight_01_red",
        "town/roadsigns/stoplight_02_yellow",
        "town/roadsigns/stoplight_03_green",
    ),
    "truck": (
        "vehicles/auto/truck",
        "vehicles/construction/dumper",
        "vehicles/emergency/firetruck",
        "vehicles/garbagetruck",
    ),
    "zebra": ("animals/mammals/equines/zebra",),
}
"""Class -> its files below the stamps' folder, without the suffix."""


@dataclass(frozen=True)
class Stamp:
    """One cut-out."""

    path: Path
    label: int
    """Index of its class in :data:`CLASSES`."""
    image: Image.Image
    """RGBA, cut to where it is visible."""


def load_stamps(folder: Path, part: Literal["train", "test"]) -> list[Stamp]:
    """The stamps to train with, or those that are never trained with, by class.

    Of each class every other one is for tests, beginning with the first: where there is but one
    the class has none to train with.

    Raises :class:`TrainingError` if one is not there.
    """
    stamps = []
    for name, files in FILES.items():
        for file in files[0 if part == "test" else 1 :: 2]:
            path = folder / f"{file}.png"
            if not path.is_file():
                raise TrainingError(
                    f"{path}: no such stamp; install Tux Paint's (apt-get install "
                    "tuxpaint-stamps-default), give their folder as recipe.stamps, or set "
                    "recipe.stamps to null for photos as they are"
                )
            stamps.append(Stamp(path, CLASSES.index(name), _read(path)))
    return stamps


def _read(path: Path) -> Image.Image:
    with Image.open(path) as file:
        image = file.convert("RGBA")
    # Almost transparent fringes would make the box larger than what is seen of the thing.
    visible = image.getchannel("A").point(lambda value: 255 if value >= 128 else 0).getbbox()
    image = image.crop(visible)
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return image
