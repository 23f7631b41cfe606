"""A search for the quality at which a file has a wanted figure, in few encodings.

It knows of no codec: a callable makes a file at a quality, another one takes its figure, which by
and large rises with the quality. Neither has to be strictly monotone, and a figure may stand still
for a while or jump. Qualities are those that a file can hold, multiples of 1/4096.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from mpa_core.bitstream.container import MIN_QUALITY, QUALITY_SCALE

F = TypeVar("F")

MOST_ENCODINGS = 8
"""Number of encodings after which a search ends with what it has."""
_STEEPER = 3.0
"""Factor by which a slope that was found may differ from the usual one when it leads outwards."""
_OUTWARD_STEPS = 2
"""Number of steps that follow a slope outwards; the next goes to the end of the qualities."""
_MARGIN = 0.03
"""Share of an interval at each of its ends in which no step falls, where the interval is wide."""


@dataclass(frozen=True)
class Window:
    """The figures that end a search, and how to get there.

    Attributes:
        low, high: the search ends at a figure from ``low`` to ``high``.
        aim: figure in the window that steps lead to.
        slope: usual rise of the figure from one whole quality to the next; more than 0.
    """

    low: float
    high: float
    aim: float
    slope: float


@dataclass(frozen=True)
class Tried(Generic[F]):
    """A file that was made in the search.

    Attributes:
        quality: its quality.
        file: the file, as the callable returned it.
        figure: its figure.
    """

    quality: float
    file: F
    figure: float

    @property
    def step(self) -> int:
        """The quality as a multiple of 1/4096."""
        return int(self.quality * QUALITY_SCALE)


def search(
    encode: Callable[[float], F],
    figure: Callable[[F], float],
    window: Window,
    levels: int,
    *,
    first: float,
    most: int = MOST_ENCODINGS,
) -> list[Tried[F]]:
    """Try qualities until a figure lies in ``window``, and return all that was tried, in order.

    Outside of a bracket the steps follow the slope. Inside they are those of inverse quadratic
    interpolation, or bisect where two of those have not halved the bracket.

    Args:
        encode: makes the file of a quality, a multiple of 1/4096.
        figure: takes the figure of a file.
        window: the figures that end the search.
        levels: the highest quality; the lowest is 1.
        first: the quality to begin with.
        most: largest number of calls of ``encode``, at least 4: among so many is the end of the
            qualities, if the window lies beyond it.

    Returns:
        The files tried. The last one's figure lies in the window, or the window lies beyond the end
            of the qualities and the last is that end, or it lies between two neighbouring
            qualities, or ``most`` files have been made.
    """
    ends = MIN_QUALITY * QUALITY_SCALE, levels * QUALITY_SCALE
    bracket = _Bracket(window, ends)
    tried: list[Tried[F]] = []
    step: int | None = min(max(round(first * QUALITY_SCALE), ends[0]), ends[1])
    while step is not None and len(tried) < most:
        quality = step / QUALITY_SCALE
        file = encode(quality)
        tried.append(Tried(quality, file, figure(file)))
        step = bracket.next_after(step, tried[-1].figure)
    return tried


@dataclass(frozen=True)
class _Point:
    """A step, and how far its figure is from the aim."""

    step: int
    distance: float


class _Bracket:
    """The steps between which the window lies, as far as the figures rise with the quality."""

    def __init__(self, window: Window, ends: tuple[int, int]) -> None:
        self._window = window
        self._ends = ends
        self._below: _Point | None = None
        self._above: _Point | None = None
        self._replaced: _Point | None = None
        """The point last replaced by one on the same side."""
        self._outward = 0
        self._widths: list[int] = []

    def next_after(self, step: int, figure: float) -> int | None:
        """Take in the figure of a step, and return the next step; None to end."""
        if self._window.low <= figure <= self._window.high:
            return None
        found = _Point(step, figure - self._window.aim)
        low = figure < self._window.low
        if low:
            self._replaced, self._below = self._below or self._replaced, found
        else:
            self._replaced, self._above = self._above or self._replaced, found
        if self._below is not None and self._above is not None:
            return self._inside(self._below, self._above)
        return self._outside(found, self._ends[1] if low else self._ends[0])

    def _outside(self, found: _Point, end: int) -> int | None:
        """Return a step towards ``end``, by the slope that was found or else the usual one."""
        if found.step == end:
            return None
        self._outward += 1
        if self._outward > _OUTWARD_STEPS:
            return end
        usual = slope = self._window.slope / QUALITY_SCALE
        if self._replaced is not None:
            slope = _slope(self._replaced, found)
            slope = min(max(slope, usual / _STEEPER), usual * _STEEPER)
        rise = max(1, round(abs(found.distance) / slope))
        return max(found.step - rise, end) if end < found.step else min(found.step + rise, end)

    def _inside(self, below: _Point, above: _Point) -> int | None:
        width = above.step - below.step
        if width <= 1:
            return None
        self._widths.append(width)
        if len(self._widths) > 2 and 2 * width > self._widths[-3]:
            return below.step + width // 2
        step = _root(below, above, self._replaced)
        inset = max(1, int(_MARGIN * width))
        return min(max(step, below.step + inset), above.step - inset)


def _slope(one: _Point, other: _Point) -> float:
    return (other.distance - one.distance) / (other.step - one.step)


def _root(below: _Point, above: _Point, third: _Point | None) -> int:
    """Return the step between two points at which the distance is 0, by interpolation.

    With a third point the step is a parabola of the distance where that is between the two points,
    else a straight line.
    """
    line = below.step + below.distance / (below.distance - above.distance) * (
        above.step - below.step
    )
    if third is None or not (third.distance < below.distance or third.distance > above.distance):
        return round(line)
    # Newton's form of the parabola through the three.
    first = 1 / _slope(below, above)
    second = (1 / _slope(above, third) - first) / (third.distance - below.distance)
    curved = line + second * below.distance * above.distance
    return round(curved if below.step < curved < above.step else line)
