"""The pictures that results are of, by name and protocol."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpa_core.evaluation.kept import key_of
from mpa_core.evaluation.protocols import WHOLE
from mpa_core.evaluation.statistics import Array


@dataclass(frozen=True)
class PictureSet:
    """The pictures that rows refer to, in order."""

    name: str
    names: list[str]
    digests: list[str]
    sizes: list[tuple[int, int]]
    """Width and height of each."""
    protocol: str = str(WHOLE)
    """Text of the :class:`Protocol` that made them of photos."""
    photos: list[str] | None = None
    """Name of the photo that each is of; None where each is of another."""

    @property
    def key(self) -> str:
        """16 hex digits that identify the protocol, the pictures and their order."""
        protocol = {} if self.is_whole else {"protocol": self.protocol}
        return key_of({"pictures": self.digests, **protocol})

    @property
    def is_whole(self) -> bool:
        """Whether the pictures are whole photos."""
        return self.protocol == str(WHOLE)

    @property
    def label(self) -> str:
        """Name and protocol, for headings: ``photos, short-side:256``."""
        return f"{self.name}, {self.protocol}"

    @property
    def slug(self) -> str:
        """Name, and protocol if it is not the usual one, for names of files."""
        return self.name if self.is_whole else f"{self.name}-{self.protocol.replace(':', '-')}"

    @property
    def count(self) -> str:
        """The number of pictures, in words: "1 picture", "24 pictures of 20 photos"."""
        words = _counted(len(self.digests), "picture")
        return words + (f" of {_counted(len(set(self.photos)), 'photo')}" if self.photos else "")

    def by_photo(self, per_picture: Array) -> Array:
        """Return the sums over the pictures of each photo, [photos, K], of [pictures, K]."""
        if self.photos is None:
            return per_picture
        _, places = np.unique(self.photos, return_inverse=True)
        sums = np.zeros((places.max() + 1, per_picture.shape[1]))
        np.add.at(sums, places, per_picture)
        return sums


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
