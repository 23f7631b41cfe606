r"""ICC profile and EXIF of a picture: read from what Pillow read, and prepared for what it writes.

An EXIF block is kept from its TIFF header on. Some formats put ``Exif\0\0`` before it; that prefix
belongs to them and is cut off.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from PIL import Image

from mpa_core.io.orientation import orientation_of

_EXIF_PREFIX = b"Exif\x00\x00"
_ORIENTATION, _MAKER_NOTE, _CAMERA = 0x0112, 0x927C, 0x8769
_DIRECTORY_TAGS = (_CAMERA, 0x8825)  # the EXIF and the GPS directory
# The tags of a TIFF directory that describe the picture rather than how its pixels are stored.
_DESCRIPTIVE_TAGS = frozenset(
    (
        *(0x010E, 0x010F, 0x0110, _ORIENTATION, 0x011A, 0x011B),
        *(0x0128, 0x0131, 0x0132, 0x013B, 0x8298),
        *_DIRECTORY_TAGS,
    )
)


def strip_exif_prefix(exif: bytes) -> bytes:
    """Return the block from its TIFF header on."""
    return exif[len(_EXIF_PREFIX) :] if exif.startswith(_EXIF_PREFIX) else exif


def read_exif(image: Image.Image) -> bytes | None:
    """Return the EXIF block of an image, as stored where the format stores one; None without one.

    TIFF keeps it spread over its own directory, some PNGs in a text field: there it is built anew.
    """
    stored = image.info.get("exif")
    if isinstance(stored, bytes):
        return strip_exif_prefix(stored) or None
    exif = _descriptive(image.getexif())
    return strip_exif_prefix(exif.tobytes()) if len(exif) else None


def exif_for(kind: str, block: bytes) -> bytes:
    """Return ``block`` in the form that Pillow's writer of the format ``kind`` takes.

    The tags go into TIFF's own directory, so none may contradict the pixels it stores.
    """
    if kind == "TIFF":
        exif = Image.Exif()
        exif.load(block)
        block = _descriptive(exif).tobytes()
    return _EXIF_PREFIX + strip_exif_prefix(block)


def reduced_exif(block: bytes) -> Iterator[tuple[bytes, str]]:
    """Yield less and less of an EXIF block, each with a text on the part left out.

    The first is the whole block, with an empty text. Every later one is built anew. The preview is
    left out first, with tags that few readers know, then the maker's notes; the orientation, which
    says how the pixels are shown, is kept longest. A block that cannot be read is yielded only as a
    whole.
    """
    yield block, ""
    with suppress(Exception):  # Pillow raises nearly anything on a damaged block
        exif = Image.Exif()
        exif.load(block)
        kept = _descriptive(exif)
        if len(kept):
            yield strip_exif_prefix(kept.tobytes()), "its preview and unusual tags were"
        camera = dict(kept.get(_CAMERA, {}))
        if camera.pop(_MAKER_NOTE, None) is not None:
            kept[_CAMERA] = camera
            left_out = "its preview, unusual tags and maker's notes were"
            yield strip_exif_prefix(kept.tobytes()), left_out
    turned = Image.Exif()
    turned[_ORIENTATION] = orientation_of(block)
    if turned[_ORIENTATION] != 1:
        yield strip_exif_prefix(turned.tobytes()), "all but the orientation was"


def _descriptive(exif: Image.Exif) -> Image.Exif:
    """Return a copy without the tags that say how another file stores its pixels."""
    kept = Image.Exif()
    for tag, value in exif.items():
        if tag in _DESCRIPTIVE_TAGS:
            kept[tag] = exif.get_ifd(tag) if tag in _DIRECTORY_TAGS else value
    return kept
