"""The file that meets a target, by a search over real qualities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

from mpa_core.bitstream.parsed import parse_file
from mpa_core.coding.targets.fidelity import Fidelity, from_decibel, in_decibel
from mpa_core.coding.targets.search import MOST_ENCODINGS, Tried, Window, search
from mpa_core.coding.targets.target import TOLERANCE, TOLERANCE_DB, Target
from mpa_core.errors import TargetError

_SIZE_SLOPE = 0.4
"""Usual rise of the logarithm of a photo's size from one quality to the next."""
_DECIBEL_SLOPE = 1.5
"""Usual rise of a photo's PSNR in dB from one quality to the next."""


def reach(
    target: Target,
    encode: Callable[[float], bytes],
    measure: Callable[[bytes], float] | None,
    *,
    pixels: int,
    levels: int,
    first: float | None = None,
    most: int = MOST_ENCODINGS,
) -> bytes:
    """Return the file of one picture that meets ``target``.

    Args:
        target: the target.
        encode: makes the picture's file at a quality, a multiple of 1/4096.
        measure: for a target of fidelity, takes that of a file, in dB as
            :func:`mpa_core.coding.targets.fidelity.in_decibel` has it.
        pixels: number of the picture's pixels.
        levels: the highest quality.
        first: the quality to begin with; None begins in the middle.
        most: largest number of files to make, at least 4.

    Returns:
        Of the files made that meet the target, the largest if it limits the size, else the
            smallest.

    Raises:
        TargetError: none of the files made meets it.
    """
    if measure is None:
        limit = target.most_bytes(pixels)
        window = size_window(target.least_bytes(pixels), limit)
        figure: Callable[[bytes], float] = _log_size
    else:
        window = fidelity_window(in_decibel(cast(Fidelity, target.kind), target.value))
        figure = measure
    middle = (1 + levels) / 2
    tried = search(
        encode, figure, window, levels, first=middle if first is None else first, most=most
    )
    if measure is None:
        meet = [each for each in tried if len(each.file) <= limit]
        if not meet:
            raise TargetError(_too_small(target, limit, tried))
        return max(meet, key=lambda each: (len(each.file), each.quality)).file
    meet = [each for each in tried if each.figure >= window.low]
    if not meet:
        raise TargetError(_too_good(target, tried))
    return min(meet, key=lambda each: (len(each.file), -each.figure)).file


def size_window(least: int, most: int) -> Window:
    """Return the window of the logarithms of sizes from ``least`` to ``most`` bytes."""
    high = math.log(max(1, most))
    return Window(math.log(least), high, high - TOLERANCE / 2, _SIZE_SLOPE)


def fidelity_window(decibel: float) -> Window:
    """Return the window of the fidelities from ``decibel`` on."""
    aim = decibel + TOLERANCE_DB / 2
    return Window(decibel, decibel + TOLERANCE_DB, aim, _DECIBEL_SLOPE)


def _log_size(file: bytes) -> float:
    return math.log(len(file))


def _too_small(target: Target, limit: int, tried: Sequence[Tried[bytes]]) -> str:
    smallest = min(tried, key=lambda each: (len(each.file), each.quality))
    figures = parse_file(smallest.file, max_pixels=None).size_figures
    metadata = figures["metadata_bytes"]
    of_them = f" ({metadata} of them metadata)" if metadata else ""
    fits_without = metadata and figures["picture_bytes"] <= limit
    leave = "leave out its metadata, " if fits_without else ""
    return (
        f"the smallest file of this picture, of quality {smallest.quality:g}, has "
        f"{figures['bytes']} bytes{of_them}, more than the {limit} of {target}; allow that many, "
        f"{leave}or make the picture smaller"
    )


def _too_good(target: Target, tried: Sequence[Tried[bytes]]) -> str:
    best = max(tried, key=lambda each: each.figure)
    kind = cast(Fidelity, target.kind)
    name, unit = ("PSNR", " dB") if kind == "psnr" else ("MS-SSIM", "")
    # Cut and not rounded: what is said can be asked for.
    digits = 10**2 if kind == "psnr" else 10**4
    value = math.floor(from_decibel(kind, best.figure) * digits) / digits
    return (
        f"the best file of this picture, of quality {best.quality:g}, reaches {name} "
        f"{value:g}{unit}, less than {target}; ask for no more than that"
    )
