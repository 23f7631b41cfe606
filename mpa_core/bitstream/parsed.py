"""An ``.mpa`` file parsed once, checked, with its metadata.

Pure Python, without torch or numpy: ``mpa info`` needs no more, and ``codec.open`` builds on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mpa_core.arguments import as_choice
from mpa_core.bitstream.container import MAX_PIXELS, Buffer, Container, as_bytes, unpack
from mpa_core.bitstream.metadata import Metadata, from_chunks, salvage_chunks
from mpa_core.bitstream.salvage import salvage
from mpa_core.io.orientation import orientation_of, upright_size

Errors = Literal["strict", "conceal"]
"""Whether damage is an error (``strict``), or is concealed and reported (``conceal``)."""

_ENTRY_BYTES = 8
"""Size in bytes of a chunk's entry in the header."""


@dataclass(frozen=True)
class ParsedFile:
    """The parsed contents of an ``.mpa`` file; :func:`parse_file` makes it."""

    container: Container
    """The header's fields and the streams."""
    metadata: Metadata
    """ICC profile and EXIF, decompressed."""
    file_size: int
    """Size of the file in bytes, as it was given."""
    errors: Errors
    """The mode in which it was parsed, and in which its streams are to be decoded."""
    damage: tuple[str, ...]
    """One sentence for each fault of the file; always empty where damage is an error."""

    @property
    def orientation(self) -> int:
        """EXIF orientation, from 1 (stored upright) to 8."""
        return orientation_of(self.metadata.exif)

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width of the picture, as shown upright."""
        return upright_size(self.container.height, self.container.width, self.orientation)

    @property
    def size_figures(self) -> dict[str, int | float]:
        """Bytes and bits per pixel of the whole file, and separately of picture and metadata.

        ``picture_bytes`` (streams and header) and ``metadata_bytes`` (all chunks and their table)
        add up to ``bytes``; ``bpp`` is of the whole file, ``picture_bpp`` of the picture alone.
        """
        chunks = self.container.chunks.values()
        metadata = sum(map(len, chunks)) + _ENTRY_BYTES * len(chunks)
        picture = self.file_size - metadata
        pixels = self.container.width * self.container.height
        return {
            "bytes": self.file_size,
            "bpp": round(8 * self.file_size / pixels, 5),
            "picture_bytes": picture,
            "picture_bpp": round(8 * picture / pixels, 5),
            "metadata_bytes": metadata,
        }


def parse_file(
    data: Buffer, *, errors: Errors = "strict", max_pixels: int | None = MAX_PIXELS
) -> ParsedFile:
    """Parse and check a whole ``.mpa`` file, all but the symbols in its streams.

    Args:
        data: all bytes of the file, or all that are left of it.
        errors: with ``"strict"``, damage is an error; with ``"conceal"``, everything that can be
            read of a damaged file is returned, and ``damage`` says what is wrong (see
            :func:`mpa_core.bitstream.salvage.salvage`).
        max_pixels: largest number of pixels (width x height) to accept; None for no limit.

    Raises:
        BitstreamError: not an ``.mpa`` file, a damaged one (with ``"conceal"``: one whose header is
            too damaged to use), or a picture larger than ``max_pixels``.
        ConfigError: ``errors`` has another value.
    """
    data = as_bytes(data)
    if as_choice(errors, "errors", ("strict", "conceal")) == "strict":
        container = unpack(data, max_pixels=max_pixels)
        return ParsedFile(container, from_chunks(container.chunks), len(data), errors, ())
    found = salvage(data, max_pixels=max_pixels)
    metadata, left_out = salvage_chunks(found.container.chunks)
    damage = (*found.problems, *left_out)
    return ParsedFile(found.container, metadata, len(data), errors, damage)
