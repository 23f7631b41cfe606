"""Damaged and hostile .mpa files opened with Pillow: one line of an OSError, or concealment."""

from __future__ import annotations

import dataclasses
import io
import warnings
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from mpa_core.bitstream.container import pack, unpack
from mpa_core.errors import DamageWarning


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def changed(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]


DAMAGES = {
    "another version": lambda data: changed(data, 4),
    "a wrong size": lambda data: changed(data, 16),
    "a wrong header checksum": lambda data: changed(data, 53),
    "a wrong byte of metadata": lambda data: changed(data, 90),
    "a wrong byte of a stream": lambda data: changed(data, len(data) - 9),
    "half a header": lambda data: data[:20],
    "cut in the metadata": lambda data: data[:100],
    "cut in a stream": lambda data: data[:-20],
    "longer": lambda data: data + b"\0",
    "another's streams": lambda data: pack(
        dataclasses.replace(unpack(data), symbols_crc=unpack(data).symbols_crc ^ 1)
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_an_os_error_of_one_line(plugin, data, damage):
    with pytest.raises(OSError) as caught:
        opened(DAMAGES[damage](data)).load()
    assert type(caught.value) is OSError
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert ";" in text  # what to do
    assert type(caught.value.__cause__).__module__ == "mpa_core.errors"


def test_a_picture_that_failed_fails_again(plugin, data):
    image = opened(data[:-20])
    for _ in range(2):
        with pytest.raises(OSError, match="truncated"):
            image.load()


@pytest.mark.parametrize("damage", sorted(set(DAMAGES) - {"another version", "another's streams"}))
def test_verify_finds_damage_without_decoding(plugin, data, damage):
    with pytest.raises(OSError):
        opened(DAMAGES[damage](data)).verify()
    opened(data).verify()


def test_any_change_is_seen(plugin, data):
    @settings(max_examples=25, deadline=None)
    @given(st.integers(4, len(data) - 1), st.integers(1, 255), st.booleans())
    def check(place: int, mask: int, cut: bool):
        damaged = bytearray(data[:place] if cut else data)
        if not cut:
            damaged[place] ^= mask
        with pytest.raises(OSError):
            opened(bytes(damaged)).load()

    check()


@pytest.mark.parametrize(
    "damage", ["a wrong size", "a wrong byte of metadata", "cut in a stream", "longer"]
)
def test_damage_is_concealed_where_truncated_pictures_are_loaded(
    plugin, codec, data, damage, monkeypatch
):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    image = opened(DAMAGES[damage](data))
    with pytest.warns(DamageWarning):
        image.load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamageWarning)
        expected = codec.decode(DAMAGES[damage](data), errors="conceal")
    assert image.size == (72, 40)
    assert image.tobytes() == expected.tobytes()
    assert image.info == expected.info


def test_what_cannot_be_concealed_stays_an_error(plugin, data, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(OSError, match="truncated"):
        opened(data[:20])


# ---------------------------------------------------------------------- the limit on pixels


def of_size(data: bytes, width: int, height: int) -> bytes:
    return pack(dataclasses.replace(unpack(data), width=width, height=height))


def test_pillows_limit_on_pixels_holds(plugin, data, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 72 * 40 - 1)
    with pytest.warns(Image.DecompressionBombWarning):
        image = opened(data)
    assert image.load() is not None  # Pillow has warned, and goes on
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 72 * 40 // 2 - 1)
    with pytest.raises(Image.DecompressionBombError):
        opened(data)


def test_a_file_cannot_ask_for_more_than_pillow_allows(plugin, data):
    with pytest.raises(Image.DecompressionBombError):
        opened(of_size(data, 2**31, 2**31))
    # Few pixels, and sixty-four times as many with the padding.
    with pytest.raises(Image.DecompressionBombError, match="MAX_IMAGE_PIXELS"):
        opened(of_size(data, 1, 2**27))


def test_without_a_limit_there_is_none(plugin, data, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert opened(of_size(data, 1, 2**27)).size == (1, 2**27)


def test_a_chunk_that_is_promised_asks_for_no_memory(plugin, data):
    container = unpack(data)
    header = bytearray(pack(dataclasses.replace(container, chunks={b"ICCP": b"x"})))
    size = 34 + 8 + 2 * 4
    header[38:42] = (2**32 - 1).to_bytes(4, "little")
    header[size : size + 4] = zlib.crc32(header[:size]).to_bytes(4, "little")
    image = opened(bytes(header))
    assert "icc_profile" not in image.info
    with pytest.raises(OSError, match="truncated"):
        image.load()
