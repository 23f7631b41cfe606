"""Tiles: together they are the picture, each once, and none is large."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from mpa_core.coding.effort.tiles import HALO, WHOLE_PIXELS, tiles

SIDES = st.integers(1, 40).map(lambda n: 64 * n)


@given(SIDES, SIDES)
def test_every_place_is_kept_once(height, width):
    parts = tiles(height, width, 64)
    for stride in (1, 16):
        whole = torch.arange(height * width // stride**2).reshape(height // stride, -1)
        found = torch.full_like(whole, -1)
        for tile in parts:
            here = tile.cut(whole, stride)
            assert here.numel() * stride**2 <= WHOLE_PIXELS
            tile.put(here, found, stride)
        assert torch.equal(found, whole)
    kept = sum(
        (t.rows.kept_stop - t.rows.kept_start) * (t.columns.kept_stop - t.columns.kept_start)
        for t in parts
    )
    assert kept == height * width


@given(SIDES, SIDES)
def test_a_halo_is_around_what_is_kept(height, width):
    for tile in tiles(height, width, 64):
        for span, length in ((tile.rows, height), (tile.columns, width)):
            assert span.start == max(0, span.kept_start - HALO) or span.start == 0
            assert span.stop == min(length, span.kept_stop + HALO)


def test_a_picture_of_usual_size_is_one_tile():
    assert len(tiles(512, 768, 64)) == 1
