"""The search for a quality, on figures that rise evenly, unevenly, in steps, or do as they like."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpa_core.bitstream.container import Container, pack, unpack
from mpa_core.coding.targets.reach import fidelity_window, reach, size_window
from mpa_core.coding.targets.search import Window, search
from mpa_core.coding.targets.target import Target, as_goal
from mpa_core.errors import TargetError

LEVELS = st.integers(2, 8)


@st.composite
def slopes_between(draw: st.DrawFn, least: float, most: float) -> list[float]:
    """Rises per whole quality, in each half one, that change by at most half from one to the next.

    Those of real pictures change less.
    """
    slopes = [draw(st.floats(least, most))]
    for ratio in draw(st.lists(st.floats(2 / 3, 3 / 2), min_size=13, max_size=13)):
        slopes.append(min(max(slopes[-1] * ratio, least), most))
    return slopes


SLOPES = slopes_between(0.08, 1.0)
"""Of the logarithm of a size; those of photos are about 0.4, of noise 1 to 0.1."""


def rising(slopes: list[float], lowest: float) -> Callable[[float], float]:
    """A figure that rises from ``lowest`` at quality 1 by other slopes in each half quality."""
    knots = [lowest, *accumulate((slope / 2 for slope in slopes), initial=lowest)][1:]
    places = [1 + index / 2 for index in range(len(knots))]
    return lambda quality: float(np.interp(quality, places, knots))


def file_of(size: int, quality: float) -> bytes:
    """A whole file of this size."""
    empty = Container(bytes(8), 1, quality, 40, 30, (b"", b""), 0)
    return pack(Container(bytes(8), 1, quality, 40, 30, (bytes(size - len(pack(empty))), b""), 0))


class Encodings:
    """Files whose size is a function of the quality, with all qualities that were encoded."""

    def __init__(self, size: Callable[[float], float]) -> None:
        self.size = size
        self.qualities: list[float] = []

    def __call__(self, quality: float) -> bytes:
        assert float(quality * 4096).is_integer()
        assert quality not in self.qualities
        self.qualities.append(quality)
        return file_of(round(self.size(quality)), quality)


def reach_size(limit: int, encode: Encodings, levels: int, **more: Any) -> bytes:
    target = as_goal(target_size=limit)
    return reach(target, encode, None, pixels=1200, levels=levels, **more)


def steps_of_four(log_size: Callable[[float], float]) -> Callable[[float], int]:
    """Sizes as our files have them: the range coder writes words of four bytes."""
    return lambda quality: 4 * round(math.exp(log_size(quality)) / 4)


# ---------------------------------------------------------------------- sizes


@settings(deadline=None)
@given(SLOPES, st.floats(4.6, 6.5), LEVELS, st.floats(0, 1))
def test_a_size_that_rises_is_reached(slopes, lowest, levels, share):
    """From 100 bytes of black at quality 1 to 700 kB; every limit that has a file."""
    size = steps_of_four(rising(slopes, lowest))
    least, most = size(1), size(levels)
    limit = round(least * (1.1 * most / least) ** share)
    encode = Encodings(size)
    found = reach_size(limit, encode, levels)
    assert len(found) <= limit
    assert limit - len(found) <= max(0.02 * limit, 64) or unpack(found).quality == levels
    assert len(encode.qualities) <= 8
    assert all(1 <= quality <= levels for quality in encode.qualities)


@settings(deadline=None)
@given(SLOPES, st.floats(4.6, 6.5), LEVELS, st.floats(0.5, 0.999))
def test_a_size_below_the_smallest_is_an_error_that_says_it(slopes, lowest, levels, share):
    size = steps_of_four(rising(slopes, lowest))
    encode = Encodings(size)
    with pytest.raises(TargetError) as caught:
        reach_size(int(share * size(1)), encode, levels)
    smallest, said = min(map(size, encode.qualities)), str(caught.value)
    assert smallest == size(1)
    assert said.startswith("the smallest file of this picture, of quality 1, has ")
    assert f" has {smallest} bytes, more than the {int(share * size(1))} of target_size=" in said
    assert len(encode.qualities) <= 4


@settings(deadline=None)
@given(
    SLOPES,
    LEVELS,
    st.floats(0, 1),
    st.floats(0, 2 * math.pi),
    st.floats(0.001, 0.006),
    st.floats(0.003, 3),
)
def test_a_size_that_wavers_is_reached(slopes, levels, share, phase, height, length):
    """Waves of up to 0.6 % on a rising size, of any length: the size is not monotone."""
    rise = rising(slopes, 6.5)
    size = steps_of_four(lambda q: rise(q) + height * math.sin(q / length + phase))
    encode = Encodings(size)
    limit = round(size(1) * (1.02 * size(levels) / size(1)) ** share) + 40
    found = reach_size(limit, encode, levels)
    assert len(found) <= limit
    near = limit - len(found) <= max(0.02 * limit, 64)
    assert near or unpack(found).quality == levels
    assert len(encode.qualities) <= 8


@settings(deadline=None)
@given(st.lists(st.integers(80, 10**6), min_size=7, max_size=7), st.integers(80, 10**6))
def test_of_a_size_that_jumps_the_best_is_kept(sizes, limit):
    """A size that stands still and jumps, upwards: no quality may be near the limit."""
    sizes.sort()
    encode = Encodings(lambda quality: sizes[min(int(quality), 7) - 1])
    if sizes[0] > limit:
        with pytest.raises(TargetError):
            reach_size(limit, encode, 8)
        return
    found = reach_size(limit, encode, 8)
    seen = map(encode.size, encode.qualities)
    assert len(found) == max(size for size in seen if size <= limit)
    assert len(encode.qualities) <= 8


@settings(deadline=None)
@given(st.lists(st.integers(80, 10**6), min_size=7, max_size=7), st.integers(80, 10**6))
def test_any_size_at_all(sizes, limit):
    """Sizes that fall as they like: the limit holds, and so does the number of encodings."""
    encode = Encodings(lambda quality: sizes[min(int(quality), 7) - 1])
    try:
        assert len(reach_size(limit, encode, 8)) <= limit
    except TargetError:
        assert min(encode.size(quality) for quality in encode.qualities) > limit
    assert len(encode.qualities) <= 8


@settings(deadline=None)
@given(st.sampled_from([1.0, 2.75, 4.5, 8.0]), st.integers(4, 8))
def test_another_beginning_and_fewer_encodings(first, most):
    """As a slower encoder uses it, that begins where a faster one ended."""
    encode = Encodings(steps_of_four(rising([0.4] * 14, 8)))
    found = reach_size(20_000, encode, 8, first=first, most=most)
    assert encode.qualities[0] == first
    assert len(encode.qualities) <= most
    assert 19_600 <= len(found) <= 20_000


def test_the_first_quality_near_enough_ends_the_search():
    encode = Encodings(lambda quality: 10_000)
    assert len(reach_size(10_100, encode, 8)) == 10_000
    assert encode.qualities == [4.5]


# ---------------------------------------------------------------------- fidelities

PSNR_SLOPES = slopes_between(0.2, 4)


def reach_psnr(
    least: float, psnr: Callable[[float], float], levels: int
) -> tuple[bytes, list[float]]:
    encode = Encodings(lambda quality: 200 + 4096 * quality)
    target = as_goal(target_psnr=least)
    found = reach(
        target, encode, lambda data: psnr(unpack(data).quality), pixels=1200, levels=levels
    )
    return found, encode.qualities


@settings(deadline=None)
@given(PSNR_SLOPES, LEVELS, st.floats(-0.1, 1))
def test_a_fidelity_that_rises_is_reached(slopes, levels, share):
    psnr = rising(slopes, 26)
    least = 26 + share * (psnr(levels) - 26)
    found, qualities = reach_psnr(least, psnr, levels)
    quality = unpack(found).quality
    assert psnr(quality) >= least
    assert psnr(quality) <= least + 0.05 or quality == 1
    assert len(qualities) <= 8


@settings(deadline=None)
@given(PSNR_SLOPES, LEVELS, st.floats(0.001, 40))
def test_a_fidelity_that_is_not_reached_is_an_error_that_says_the_best(slopes, levels, more):
    psnr = rising(slopes, 26)
    with pytest.raises(TargetError) as caught:
        reach_psnr(psnr(levels) + more, psnr, levels)
    best = math.floor(psnr(levels) * 100) / 100
    assert str(caught.value).startswith(
        f"the best file of this picture, of quality {levels}, reaches PSNR {best:g} dB, less than "
    )


@settings(deadline=None)
@given(st.lists(st.floats(20, 50), min_size=7, max_size=7), st.floats(20, 50))
def test_any_fidelity_at_all(values, least):
    try:
        found, qualities = reach_psnr(least, lambda q: values[min(int(q), 7) - 1], 8)
    except TargetError:
        return
    enough = [q for q in qualities if values[min(int(q), 7) - 1] >= least]
    assert unpack(found).quality in enough
    assert len(found) == min(round(200 + 4096 * q) for q in enough)
    assert len(qualities) <= 8


# ---------------------------------------------------------------------- the steps themselves


@settings(deadline=None)
@given(
    st.dictionaries(st.integers(4096, 8 * 4096), st.floats(-50, 50)),
    st.floats(-50, 50),
    st.integers(4, 60),
    st.floats(1, 8),
)
def test_no_step_is_made_twice_or_leaves_the_qualities(figures, low, most, first):
    """Whatever the figures are, and infinitely steep where none is given."""
    window = Window(low, low + 0.1, low + 0.05, 1.0)
    tried = search(
        lambda quality: int(quality * 4096),
        lambda step: figures.get(step, -60.0 if step % 2 else 60.0),
        window,
        8,
        first=first,
        most=most,
    )
    steps = [each.step for each in tried]
    assert 1 <= len(steps) == len(set(steps)) <= most
    assert all(4096 <= step <= 8 * 4096 for step in steps)


@settings(deadline=None)
@given(st.integers(4096, 8 * 4096 - 1), st.booleans())
def test_a_jump_is_followed_to_its_two_neighbours(jump, high_window):
    """With encodings enough, nothing is left between what is too small and what is too large."""
    window = size_window(980, 1000) if high_window else fidelity_window(6.9)
    tried = search(
        lambda quality: quality,
        lambda quality: 3.0 if quality * 4096 <= jump else 9.0,
        window,
        8,
        first=4.5,
        most=40,
    )
    steps = sorted(each.step for each in tried)
    assert (jump, jump + 1) in pairwise(steps)
    assert len(steps) <= 36


def test_targets_are_compared_in_the_whole_file():
    target = as_goal(target_bpp=0.5)
    assert target == Target("bpp", 0.5)
    assert (target.most_bytes(1200), target.least_bytes(1200)) == (75, 11)
    assert (as_goal(target_size=10_000).least_bytes(1), target.most_bytes(1)) == (9800, 0)
