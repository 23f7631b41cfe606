"""``errors="conceal"``: the best picture that can be had of a damaged file, and a warning."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
from bytes_mutations import mutate
from PIL import Image

from mpa_core import MPACodec
from mpa_core.bitstream.container import peek_header
from mpa_core.errors import BitstreamError, DamageWarning, MPAError


@pytest.fixture(scope="module")
def codec() -> MPACodec:
    return MPACodec.from_pretrained("mpa-small")


@pytest.fixture(scope="module")
def coded(codec: MPACodec, sample: Image.Image) -> tuple[bytes, np.ndarray]:
    """A file of a part of the photo, 128 x 96, and what it decodes to."""
    data = codec.encode(np.asarray(sample)[40:136, 150:278], 4.5)
    return data, codec.decode(data, output="array")


def best(codec: MPACodec, data: bytes) -> tuple[np.ndarray, str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        picture = codec.decode(data, output="array", errors="conceal")
    assert [warning.category for warning in caught] == [DamageWarning]
    return picture, str(caught[0].message)


def likeness(picture: np.ndarray, intact: np.ndarray) -> float:
    """PSNR in dB against what the whole file decodes to."""
    error = np.square(picture.astype(float) - intact).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-10)))


def test_a_good_file_gives_no_warning(codec, coded):
    data, intact = coded
    assert np.array_equal(codec.decode(data, output="array", errors="conceal"), intact)


def test_the_more_is_left_the_better_the_picture(codec, coded):
    data, intact = coded
    size = peek_header(data).size
    found = []
    for share in (0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99):
        length = size + int((len(data) - size) * share)
        with pytest.raises(BitstreamError, match="truncated"):
            codec.decode(data[:length])
        picture, text = best(codec, data[:length])
        assert picture.shape == intact.shape
        assert f"the last {len(data) - length} of {len(data)} bytes are missing" in text
        assert "symbols concealed" in text
        found.append(likeness(picture, intact))
    assert found == sorted(found)
    # Half of the file is a picture one recognises; nine tenths are hard to tell from the whole.
    assert found[3] > 25 and found[5] > 35, found


def test_one_wrong_byte_costs_nothing(codec, coded):
    data, intact = coded
    rng = random.Random(0)
    for offset in (0, 5, 20, 33, peek_header(data).size + 1, len(data) // 2, len(data) - 1):
        changed = bytearray(data)
        changed[offset] ^= rng.randrange(1, 256)
        picture, text = best(codec, bytes(changed))
        assert np.array_equal(picture, intact)
        assert text.startswith(f"byte {offset} was {changed[offset]:02x}, put right to")


def test_what_was_appended_costs_nothing(codec, coded):
    data, intact = coded
    picture, text = best(codec, data + b"\r\n")
    assert np.array_equal(picture, intact)
    assert "2 bytes after the last stream" in text


def test_several_wrong_bytes_give_a_picture_and_say_that_it_is_wrong(codec, coded):
    data, intact = coded
    changed = bytearray(data)
    changed[-300:-290] = bytes(10)
    picture, text = best(codec, bytes(changed))
    assert picture.shape == intact.shape
    assert "wrong by more than one byte" in text and "symbols" in text


def test_any_damage_gives_a_picture_or_an_error(tiny, real_file):
    rng = random.Random(1)
    outcomes = {True: 0, False: 0}
    for _ in range(150):
        data = mutate(real_file, rng)
        if data == real_file:
            continue
        try:
            picture, _ = best(tiny, data)
        except MPAError as error:
            assert "\n" not in str(error)
            outcomes[False] += 1
        else:
            assert picture.shape == (20, 24, 3)
            outcomes[True] += 1
    assert min(outcomes.values()) > 20
