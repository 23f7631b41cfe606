"""Material for checks and a plugin's own tests: a tiny base, and a few small photos."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import cast

from PIL import Image

from mpa_core.arguments import as_path
from mpa_core.base.tinylic.codec import TinyLIC
from mpa_core.codec import MPACodec
from mpa_core.errors import OutputError

PRESET = "mpa-tiny"
"""The smallest base that has every part."""

PHOTO = "chelsea.png"
"""Of the SDK, 451 x 300 pixels."""

_PIECES = ((60, 30, 261, 163), (120, 60, 375, 250), (20, 0, 308, 300))
"""Left, top, right and bottom: odd sizes, 201 x 133, 255 x 190 and 288 x 300."""


def tiny_base(folder: str | Path, *, seed: int = 0) -> Path:
    """Write a base of some ten thousand random weights into ``folder``, which is returned.

    It codes in milliseconds, into pictures that show little but have contrast: whatever does not
    depend on what a base has learned can be tested on it. Another ``seed`` is another base.

    Raises:
        OutputError: the folder cannot be written.
    """
    target = as_path(folder, "folder", OutputError)
    codec = MPACodec.from_preset(PRESET, seed=seed)
    cast(TinyLIC, codec.model.base).y_gains.spread(4.0, 40.0)
    MPACodec(codec.model, name=f"tiny-{seed}").save_pretrained(target)
    return target


def small_photos(folder: str | Path) -> Path:
    """Write three pieces of a real photo, of odd sizes, into ``folder``, which is returned.

    Raises:
        OutputError: the folder cannot be written.
    """
    target = as_path(folder, "folder", OutputError)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with (resources.files("mpa_core") / "assets" / PHOTO).open("rb") as file:
            photo = Image.open(file).convert("RGB")
        for number, box in enumerate(_PIECES):
            photo.crop(box).save(target / f"{number}.png")
    except OSError as error:
        raise OutputError(
            f"cannot write photos into {target}: {error.strerror or error}; choose another folder"
        ) from error
    return target
