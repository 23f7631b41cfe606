"""What can be asked for in place of a quality, checked before any work is done; without torch."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any, Literal

from mpa_core.arguments import DEFAULT_QUALITY, number, shown, whole_number
from mpa_core.bitstream.parsed import ParsedFile
from mpa_core.errors import ConfigError

Kind = Literal["size", "bpp", "psnr", "ms_ssim"]
"""What a target is of: bytes of the file, its bits per pixel, or a measure of the picture."""

TOLERANCE = 0.02
"""Share of a size by which a file may stay below it."""
TOLERANCE_BYTES = 64
"""Number of bytes by which a file may stay below its size in any case."""
TOLERANCE_DB = 0.05
"""dB by which a picture may be better than asked; of MS-SSIM, of ``-10 log10(1 - MS-SSIM)``."""


@dataclass(frozen=True)
class Target:
    """A size or a fidelity that is asked for in place of a quality; :func:`as_goal` makes it."""

    kind: Kind
    value: float

    @property
    def of_size(self) -> bool:
        """Whether it limits the bytes of the file; else it asks for a fidelity of the picture."""
        return self.kind in ("size", "bpp")

    def __str__(self) -> str:
        """Return the argument as a call has it."""
        return f"target_{self.kind}={self.value}"

    def most_bytes(self, pixels: int) -> int:
        """Return the largest size of the file of a picture with so many pixels."""
        assert self.of_size
        return int(self.value if self.kind == "size" else self.value * pixels / 8)

    def least_bytes(self, pixels: int) -> int:
        """Return the smallest size that is near enough to :meth:`most_bytes`."""
        most = self.most_bytes(pixels)
        return max(1, math.ceil(most - max(TOLERANCE * most, TOLERANCE_BYTES)))

    def difference(self, file: ParsedFile, levels: int) -> str | None:
        """Describe how an existing file misses the target, as a verb phrase; None if it does not.

        A fidelity is not in a file, so of such a target nothing is said.
        """
        if not self.of_size:
            return None
        container, size = file.container, file.file_size
        most = self.most_bytes(container.width * container.height)
        if size > most:
            return f"has {size} bytes, more than the {most} of {self}"
        least = self.least_bytes(container.width * container.height)
        if size < least and container.quality < levels:
            return f"has {size} bytes, less than the {least} to {most} of {self}"
        return None


Goal = float | Target
"""What an encoder is to reach: a quality, or a target."""


def as_goal(
    quality: Any = None,
    *,
    target_size: Any = None,
    target_bpp: Any = None,
    target_psnr: Any = None,
    target_ms_ssim: Any = None,
) -> Any:
    """Return the one target that is given, checked, or else the quality, unchecked.

    Args:
        quality: None for 4.5, if no target is given.
        target_size: largest size of the file in bytes, a whole number of at least 1.
        target_bpp: largest number of bits of the file per pixel, more than 0 and at most 24.
        target_psnr: smallest PSNR in dB, more than 0.
        target_ms_ssim: smallest MS-SSIM, more than 0 and less than 1.

    Raises:
        ConfigError: two of them are given, or a target that is none of these.
    """
    asked: dict[Kind, Any] = {
        "size": target_size,
        "bpp": target_bpp,
        "psnr": target_psnr,
        "ms_ssim": target_ms_ssim,
    }
    given = [kind for kind, value in asked.items() if value is not None]
    names = [*(["quality"] if quality is not None else []), *(f"target_{kind}" for kind in given)]
    if len(names) > 1:
        raise ConfigError(
            f"{' and '.join(names)} are given, expected a quality or one target; leave out all "
            "but one"
        )
    if not given:
        return DEFAULT_QUALITY if quality is None else quality
    (kind,) = given
    return Target(kind, _checked(kind, asked[kind]))


def as_arguments(goal: Goal) -> dict[str, Any]:
    """Return the argument of ``codec.encode`` that :func:`as_goal` made a goal of, by name."""
    if isinstance(goal, Target):
        return {f"target_{goal.kind}": goal.value}
    return {"quality": goal}


_LIMITS: dict[Kind, tuple[float, str]] = {
    "size": (2**63 - 1, "a whole number of bytes, from 1 to 2**63 - 1"),
    "bpp": (24, "more than 0 and at most 24, the bits of a pixel without compression"),
    "psnr": (sys.float_info.max, "a number of dB, more than 0"),
    "ms_ssim": (math.nextafter(1, 0), "more than 0 and less than 1"),
}
"""The largest value of each kind, and a description of its values."""


def _checked(kind: Kind, value: Any) -> float:
    found = whole_number(value) if kind == "size" else number(value)
    most, what = _LIMITS[kind]
    if found is None or not 0 < found <= most:
        raise ConfigError(f"target_{kind} is {shown(value)}, expected {what}; give such a number")
    return found
