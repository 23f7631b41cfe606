"""The place of a photo goes out of its EXIF, and nothing else."""

from __future__ import annotations

import time

import exif_blocks
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mpa_core.io.location import has_location, without_location

ORDERS = ["<", ">"]


def read(block: bytes) -> tuple[dict, dict, dict, dict]:
    """Tags of the picture, the camera, the place and the preview, as Pillow finds them."""
    exif = Image.Exif()
    exif.load(block)
    ifds = [dict(exif.get_ifd(tag)) for tag in (0x8769, 0x8825, 1)]
    own = {tag: value for tag, value in exif.items() if tag not in (0x8769, 0x8825)}
    return own, *ifds


def changed(before: bytes, after: bytes) -> list[int]:
    assert len(before) == len(after)
    return [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]


@pytest.mark.parametrize("order", ORDERS)
def test_the_place_goes_and_all_else_stays(order: str):
    block = exif_blocks.photo(order)
    before = read(block)
    assert before[2][2] == pytest.approx((48, 12, 34.56))
    assert exif_blocks.PLACE in block
    assert has_location(block)
    bare = without_location(block)
    assert not has_location(bare)
    own, camera, place, preview = read(bare)
    assert (own, camera, preview) == (before[0], before[1], before[3])
    assert place == {}
    assert own[0x0112] == 6
    assert exif_blocks.PLACE not in bare
    # Maker's notes refer to places in the block, so nothing has moved.
    for part in (exif_blocks.MAKER_NOTE, exif_blocks.PREVIEW, b"2020:01:01", b"Maker of cameras"):
        assert bare.index(part) == block.index(part)
    first = int.from_bytes(block[4:8], "little" if order == "<" else "big")
    gps = block.index(exif_blocks.PLACE) - 64
    for i in changed(block, bare):
        assert i >= first or gps <= i < gps + 150
    assert without_location(bare) == bare


@pytest.mark.parametrize("order", ORDERS)
def test_a_block_without_a_place_is_untouched(order: str):
    block = exif_blocks.photo(order, place=False)
    assert not has_location(block)
    assert without_location(block) is block


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (0x02BC, b"<x:xmpmeta><exif:GPSLatitude>48,12N</exif:GPSLatitude></x:xmpmeta>"),
        (0x83BB, b"\x1c\x02\x5a\0\6London" + bytes(9)),
        (0x8649, b"8BIM\x04\x04\0\0London" + bytes(9)),
    ],
)
@pytest.mark.parametrize("place", [False, True])
def test_blocks_that_can_name_the_place_go_too(place: bool, tag: int, value: bytes):
    block = exif_blocks.photo(place=place, more=[(tag, 7, value)])
    assert has_location(block)
    bare = without_location(block)
    assert tag not in read(bare)[0]
    assert b"48,12N" not in bare
    assert b"London" not in bare
    assert read(bare)[:2] == read(exif_blocks.photo(place=False))[:2]


def test_a_preview_with_metadata_of_its_own_goes():
    preview = b"\xff\xd8\xff\xe1\0\x20Exif\0\0" + exif_blocks.photo() + b"\xff\xd9"
    block = exif_blocks.photo(place=False, preview=preview)
    assert has_location(block)
    bare = without_location(block)
    assert read(bare)[3] == {}
    assert exif_blocks.PLACE not in bare
    assert read(bare)[:2] == read(block)[:2]


@pytest.mark.parametrize(
    "block", [b"", b"II*\0", b"profile!", b"Exif\0\0II*\0", b"II*\1" + bytes(9)]
)
def test_what_is_no_exif_cannot_be_taken_apart(block: bytes):
    assert without_location(block) is None


def test_a_place_that_lies_over_the_directory_itself_cannot_be_taken_apart():
    block = exif_blocks.Block()
    # The GPS directory is the first directory, whose own entry says so once more.
    first = block.directory([(0x8825, 4, block.numbers("I", 8)), (0x8769, 4, b"\x08\0\0\0")])
    assert first == 8
    bare = without_location(block.finish(8))
    assert bare is None or not has_location(bare)


def test_more_directories_than_can_be_followed():
    """A block of pointers to everywhere takes no time, and nobody vouches for it."""
    block = exif_blocks.Block()
    everywhere = block.numbers("I", *range(8, 60_000, 2))
    crowd = block.finish(block.directory([(0x014A, 4, everywhere)]))
    start = time.process_time()
    assert has_location(crowd)
    assert without_location(crowd) is None
    assert time.process_time() - start < 5


@given(st.data())
def test_whatever_is_done_to_a_block_no_place_is_left(data: st.DataObject):
    block = bytearray(exif_blocks.photo(data.draw(st.sampled_from(ORDERS))))
    for _ in range(data.draw(st.integers(0, 6))):
        block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    block = block[: data.draw(st.integers(0, len(block)))]
    bare = without_location(bytes(block))
    if bare is not None:
        assert len(bare) == len(block)
        assert not has_location(bare)
        try:
            place = read(bare)[2]
        except Exception:  # noqa: BLE001 -- damaged: Pillow raises nearly anything
            return
        assert place == {}
