"""Protocols: which pictures are coded for each photo, by name and parameters.

A figure holds for its protocol alone: 256-pixel squares of photos at full size show a classifier
other things than whole photos that were made small, at other rates. Results therefore keep the
protocol with each set of pictures, and everything that shows figures names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mpa_core.errors import ConfigError, TrainingError
from mpa_core.evaluation.kept import digest, key_of
from mpa_core.io.folders import claim_output
from mpa_core.io.output import save_image
from mpa_core.tasks.photos import PhotoFolder, undamaged

Pixels = NDArray[np.uint8]
"""RGB [H, W, 3]."""
Cut = Callable[..., list[Pixels]]
"""Function of a photo and the parameters, whole numbers, that returns the pictures to code: none
where the protocol has no use for the photo."""

MOST_PARAMETER = 2**14


class Kind(NamedTuple):
    """Protocols of one name, which differ in their parameters."""

    cut: Cut | None
    """None: photos are coded as they are, from their own folder."""
    parameters: dict[str, int]
    """Name and default of each parameter, in the order in which they are written."""
    summary: str
    """A sentence on what is coded, with the parameters by name in braces."""


def short_side(photo: Pixels, side: int) -> list[Pixels]:
    """Return the squares of ``side`` pixels in ``photo`` made so small that they fill it across.

    The short side becomes ``side`` pixels and the long one follows, rounded down, as torchvision's
    ``Resize`` has it: bicubic, with the antialiasing that Pillow does. The squares lie edge to edge
    along the long side, as many as fit, in the middle; one of them is torchvision's
    ``CenterCrop``. A photo whose short side has fewer pixels is never enlarged and gives none.
    """
    height, width = photo.shape[:2]
    shortest = min(height, width)
    if shortest < side:
        return []
    size = (side * width // shortest, side * height // shortest)
    small = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC))
    longest = max(size)
    count = longest // side
    start = round((longest - count * side) / 2)
    places = [slice(start + k * side, start + (k + 1) * side) for k in range(count)]
    return [
        np.ascontiguousarray(small[:, place] if size[0] == longest else small[place])
        for place in places
    ]


KINDS = {
    "whole": Kind(None, {}, "each photo is coded whole, at its own size"),
    "short-side": Kind(
        short_side,
        {"side": 256},
        "each photo is made smaller until its short side has {side} pixels (bicubic with "
        "antialiasing, as Pillow does it), and the squares of {side} pixels that fit along its "
        "long side, edge to edge and in the middle, are coded each as a file of its own; photos "
        "with a shorter side are left out",
    ),
}
"""All protocols, by name."""


@dataclass(frozen=True)
class Protocol:
    """A protocol with its parameters."""

    name: str
    values: tuple[int, ...] = ()
    """The value of each parameter of its kind."""

    @classmethod
    def parse(cls, text: str) -> Protocol:
        """Read ``whole``, ``short-side`` or ``short-side:224``; what is left out has its default.

        Raises:
            ConfigError: there is no such protocol, or a parameter is no whole number from 1 on.
        """
        name, *given = text.split(":")
        kind = KINDS.get(name)
        numbers = [int(word) if word.isascii() and word.isdecimal() else 0 for word in given]
        fitting = kind is not None and len(given) <= len(kind.parameters)
        if kind is None or not fitting or not all(1 <= n <= MOST_PARAMETER for n in numbers):
            forms = ", ".join(
                ":".join([known, *(f"{key.upper()}" for key in kind.parameters)])
                for known, kind in KINDS.items()
            )
            raise ConfigError(
                f"no protocol is called {text!r}; expected one of {forms}, with whole numbers from "
                f"1 to {MOST_PARAMETER}, such as short-side:256"
            )
        return cls(name, (*numbers, *list(kind.parameters.values())[len(numbers) :]))

    def __str__(self) -> str:
        return ":".join([self.name, *map(str, self.values)])

    @property
    def kind(self) -> Kind:
        """What protocols of this name have in common."""
        return KINDS[self.name]

    @property
    def summary(self) -> str:
        """A sentence on what is coded."""
        return self.kind.summary.format(**self._parameters)

    @property
    def _parameters(self) -> dict[str, int]:
        return dict(zip(self.kind.parameters, self.values, strict=True))

    def cut(self, photo: Pixels) -> list[Pixels]:
        """Return the pictures that are coded for ``photo``."""
        return [photo] if self.kind.cut is None else self.kind.cut(photo, **self._parameters)


WHOLE = Protocol("whole")
"""The protocol unless another is asked for, and that of results from before there were several."""


@dataclass(frozen=True)
class CutPhotos:
    """The pictures that a protocol makes of a folder's photos, in a folder of their own."""

    folder: Path
    photos: dict[str, str]
    """By name of a picture, relative to ``folder``: name of its photo."""
    left_out: dict[str, int]
    """Number of files and folders that gave no picture, by reason."""


def cut_photos(folder: Path, protocol: Protocol, store: Path, limit: int | None) -> CutPhotos:
    """Write the pictures of all photos below ``folder`` as PNG into a folder below ``store``.

    They keep their photo's folder, by which some recipes know its class. The folder's name says
    which pictures are in it, so that it never holds any others.

    Args:
        folder: folder of photos.
        protocol: one that makes other pictures of them.
        store: folder for the pictures; it is made, and marked as output.
        limit: largest number of photos; None for all.

    Raises:
        TrainingError: no photo gives a picture.
        OutputError: a picture cannot be written.
    """
    photos = PhotoFolder(folder, min_side=1, cache_mib=0)
    useless = 0

    def cut() -> Iterator[tuple[str, list[Pixels]]]:
        nonlocal useless
        for index, photo in undamaged(photos):
            pictures = protocol.cut(photo)
            useless += not pictures
            if pictures:
                yield photos.paths[index].relative_to(folder).as_posix(), pictures

    claim_output(store, [folder])
    digests: dict[str, str] = {}
    photo_of: dict[str, str] = {}
    # Written one by one, since there may be more than memory holds; named when all are known.
    with TemporaryDirectory(prefix=".new-", dir=store, ignore_cleanup_errors=True) as made:
        fresh = Path(made)
        for photo, pictures in islice(cut(), limit):
            for number, picture in enumerate(pictures):
                name = f"{photo}-{number:02}.png"
                digests[name], photo_of[name] = digest(picture), photo
                (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                save_image(fresh / name, Image.fromarray(picture))
        if not digests:
            raise TrainingError(
                f"{folder}: none of its {len(photos)} photos gives a picture by protocol "
                f"{protocol}; give larger photos, or another --protocol"
            )
        place = store / f"{str(protocol).replace(':', '-')}-{key_of(digests)}"
        if not place.exists():
            fresh.chmod(store.stat().st_mode)  # a temporary folder is its owner's alone
            fresh.rename(place)
    small = {f"photos too small for {protocol}": useless} if useless else {}
    return CutPhotos(place, photo_of, {**photos.left_out, **small})
