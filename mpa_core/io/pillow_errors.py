"""Conversion of all errors that Pillow raises to errors of the SDK."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from mpa_core.errors import ImageError
from mpa_core.runtime.quiet import no_warnings


@contextmanager
def pillow_errors(name: str, *, saving: bool = False) -> Iterator[None]:
    """Convert any error that Pillow raises in the block to an :class:`ImageError` about ``name``.

    A damaged file makes Pillow's parsers raise nearly anything (``SyntaxError``, ``struct.error``,
    ``EOFError``, ...), so all exceptions are caught. Pillow's warnings about odd metadata are
    suppressed, since the user can do nothing about them.
    """
    try:
        with no_warnings():
            yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name} has more than the {Image.MAX_IMAGE_PIXELS} pixels that are taken for safe; "
            "raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        ) from error
    except FileNotFoundError as error:
        raise ImageError(f"{name} does not exist; check the name") from error
    except PermissionError as error:
        raise ImageError(f"{name} may not be read; check its permissions") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is not a picture in a known format; expected PNG, JPEG, WebP, TIFF or the "
            "like, whole from its first byte"
        ) from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if saving:
            raise ImageError(f"cannot make {name}: {reason}; try another format") from error
        raise ImageError(
            f"{name} is damaged or incomplete ({reason}); get a whole copy of it"
        ) from error
