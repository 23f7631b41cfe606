"""The fonts of the system that can write what has to be written."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from PIL import ImageFont

from mpa_core.errors import MissingDependencyError, TrainingError
from mpa_plugin_ocr.strings import CHARACTERS

logger = logging.getLogger(__name__)

_SUFFIXES = frozenset({".ttf", ".otf"})
_PROBE = 20
"""Size in pixels at which glyphs are compared."""
_NO_CHARACTER = "\U0010fffe"
"""What no font has: its glyph is that for missing characters."""
HELD_OUT = 4
"""One family in this many, by the alphabet, is kept for the test pictures."""

FontSplit = Literal["train", "test"]


@dataclass(frozen=True)
class Font:
    """A font file."""

    family: str
    style: str
    path: Path


def system_folders() -> list[Path]:
    """Where fonts are installed on this system."""
    home = Path.home()
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    if sys.platform == "win32":
        return [Path("C:/Windows/Fonts")]
    return [
        Path("/usr/share/fonts"),
        Path("/usr/local/share/fonts"),
        home / ".local/share/fonts",
        home / ".fonts",
    ]


def find_fonts(folder: Path | None, split: FontSplit) -> list[Font]:
    """Fonts for the pictures of a split: the families that are trained with, or those that are not.

    Where there are fewer than :data:`HELD_OUT` families, both splits have all.

    Args:
        folder: with TrueType or OpenType files at any depth; None for those of the system.
        split: ``"test"`` for the families that are kept for the test pictures.

    Raises :class:`TrainingError` if no font can be used.
    """
    folders = (folder,) if folder is not None else tuple(system_folders())
    found = _usable(folders)
    if not found:
        raise TrainingError(
            f"{', '.join(map(str, folders))}: no TrueType or OpenType font with Latin letters and "
            "digits; install one (Debian: apt-get install fonts-dejavu-core) or set recipe.fonts "
            "to a folder of fonts"
        )
    families = sorted({font.family for font in found})
    kept = set(families[HELD_OUT - 1 :: HELD_OUT])
    if not kept:
        return list(found)
    return [font for font in found if (font.family in kept) == (split == "test")]


@lru_cache(maxsize=4)
def _usable(folders: Sequence[Path]) -> list[Font]:
    """One file for each family and style, sorted by these: the order is the same anywhere."""
    known: dict[tuple[str, str], Font] = {}
    for folder in folders:
        for path in sorted(item for item in folder.rglob("*") if item.suffix.lower() in _SUFFIXES):
            try:
                face = ImageFont.truetype(str(path), _PROBE)
                family, style = (name or "" for name in face.getname())
                if (family, style) not in known and _writes(face) and not _symbols(path):
                    known[family, style] = Font(family, style, path)
            except OSError as error:
                logger.warning("left out: %s is no font that can be read (%s)", path, error)
    return [known[key] for key in sorted(known)]


def _writes(face: ImageFont.FreeTypeFont) -> bool:
    """Whether every character has a glyph of its own: none that is missing, no small capitals."""
    missing = _glyph(face, _NO_CHARACTER)
    glyphs = [_glyph(face, character) for character in CHARACTERS]
    return missing not in glyphs and len(set(glyphs)) == len(glyphs)


def _symbols(path: Path) -> bool:
    """Whether a font writes other things in the place of letters: Greek, or pictures.

    The names of its glyphs say so, where they say anything.
    """
    try:
        from fontTools.agl import toUnicode
        from fontTools.ttLib import TTFont, TTLibError
    except ImportError as error:
        raise MissingDependencyError(
            f"finding fonts that write Latin letters needs fontTools ({error}); install it with "
            "pip install 'mpa-plugin-ocr[train]'"
        ) from error
    try:
        with TTFont(path, lazy=True) as font:
            glyphs = font.getBestCmap() or {}
    except TTLibError as error:
        raise OSError(str(error)) from error
    meant = {
        character: toUnicode(glyphs.get(ord(character), ""), isZapfDingbats=True)
        for character in CHARACTERS
    }
    return any(meaning not in ("", character) for character, meaning in meant.items())


def _glyph(face: ImageFont.FreeTypeFont, character: str) -> tuple[tuple[int, int], bytes]:
    mask = face.getmask(character)
    return mask.size, bytes(mask)
