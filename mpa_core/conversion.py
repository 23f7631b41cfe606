"""Choice of the exact profile's formats from photos, and measurement of its cost in bits there."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch

from mpa_core import checkpoints
from mpa_core.codec import MPACodec
from mpa_core.coding.profiles import Profile, exact_profile
from mpa_core.errors import ImageError
from mpa_core.io.files import already_exists
from mpa_core.io.folders import find_files, picture_suffixes
from mpa_core.io.images import load_image, to_pil, to_rgb_tensor

logger = logging.getLogger(__name__)

PLACES = (0, 3, 6, 10, 14)
"""Qualities, in fourteenths between the lowest and the highest, at which layers are observed and
bits are counted: for 8 levels they are 1, 2.5, 4, 6 and 8."""
SAMPLE = "chelsea.png"


@dataclass(frozen=True)
class Conversion:
    """The result of :func:`convert_base`."""

    base: str
    fingerprint: str
    exact_fingerprint: str
    """64 hex digits; files of the exact profile begin with its first 8 bytes."""
    photos: int
    skipped: tuple[str, ...]
    """Files that are no pictures in spite of their suffix."""
    left_out: dict[str, int]
    """Number of files and folders in the folder of photos that were not taken, by reason."""
    layers: int
    float_bytes: int
    """Size in bytes of all files of the float profile, for all photos and qualities."""
    exact_bytes: int

    @property
    def cost(self) -> float:
        """Additional bits of the exact profile, as a share of those of the float profile."""
        return self.exact_bytes / self.float_bytes - 1


def convert_base(
    base: str | Path,
    out: Path,
    photos: Path | None = None,
    *,
    limit: int | None = None,
    qualities: Sequence[float] | None = None,
    force: bool = False,
) -> Conversion:
    """Write ``base`` with formats of the exact profile that fit its layers' inputs on photos.

    The weights do not change, nor do the fingerprint and the paths that belong to it.

    Args:
        base: bundled id or folder.
        out: folder to write; it may be that of ``base`` (with ``force``).
        photos: a picture or a folder of pictures; None takes a bundled one.
        limit: largest number of pictures to use.
        qualities: qualities at which layers are observed and bits are counted; None spreads five
            over the levels of the base.
        force: overwrite.

    Raises:
        CheckpointError: the base does not load, or its weights are too large for exact sums.
        ConfigError: the base is of a type without an exact profile.
        ImageError: there is no picture.
        OutputError: ``out`` exists and ``force`` is not set, or cannot be written.
    """
    if out.exists() and not force:
        raise already_exists(out, "overwrite it with --force (force=True in Python)")
    loaded = checkpoints.load_base(base)
    profile = exact_profile(loaded.model)
    if qualities is None:
        qualities = [1 + (loaded.config.quality_levels - 1) * place / 14 for place in PLACES]
    codec = MPACodec(loaded.model, name=loaded.name)
    left_out: Counter[str] = Counter()
    pictures, skipped = _pictures(photos, limit, left_out)
    with profile.observe() as largest:
        written = _sizes(codec, pictures, qualities, "float")
    formats = profile.choose_formats(largest)
    exact = MPACodec(loaded.model, name=loaded.name, formats=formats)
    coded = _sizes(exact, pictures, qualities, "exact")
    meta = checkpoints.read_base_meta(loaded.folder)
    card = loaded.folder / "README.md"
    assert exact.profiles.exact_fingerprint is not None
    exact.save_pretrained(
        out, dtype=meta.dtype, card=card.read_text(encoding="utf-8") if card.is_file() else None
    )
    return Conversion(
        base=loaded.name,
        fingerprint=exact.fingerprint,
        exact_fingerprint=exact.profiles.exact_fingerprint,
        photos=len(pictures),
        skipped=tuple(skipped),
        left_out=dict(left_out),
        layers=len(formats),
        float_bytes=written,
        exact_bytes=coded,
    )


def _pictures(
    source: Path | None, limit: int | None, left_out: Counter[str]
) -> tuple[list[Path], list[str]]:
    if source is None:
        return [Path(str(resources.files("mpa_core") / "assets" / SAMPLE))], []
    if not source.exists():
        raise ImageError(f"{source} does not exist; give a picture or a folder of photos")
    files = [source]
    if source.is_dir():
        listed = find_files(source, picture_suffixes())
        for remark in listed.remarks():
            logger.warning("%s", remark)
        left_out += listed.left_out
        files = listed.paths()
    found: list[Path] = []
    skipped: list[str] = []
    for file in files:
        if limit is not None and len(found) == limit:
            break
        try:
            load_image(file).close()
        except ImageError:
            skipped.append(str(file))
        else:
            found.append(file)
    if not found:
        raise ImageError(f"{source} holds no picture that Pillow reads; give a folder of photos")
    return found, skipped


def _sizes(
    codec: MPACodec, pictures: Sequence[Path], qualities: Sequence[float], profile: Profile
) -> int:
    """Return the size in bytes of all pictures at all qualities, without metadata."""
    total = 0
    for file in pictures:
        with load_image(file) as picture, torch.inference_mode():
            plain = to_pil(to_rgb_tensor(picture).tensor)
            total += sum(len(codec.encode(plain, q, profile=profile)) for q in qualities)
    return total
