"""Random streams: one number for one use, and a plugin's never an SDK's."""

from __future__ import annotations

import numpy as np
import pytest

from mpa_core.tasks.seeds import FIRST_FREE, Stream, generator, plugin_generator, torch_seed


def test_the_numbers_of_the_sdk_are_what_they_were():
    """Other numbers would make every run another one."""
    assert {stream.name: stream.value for stream in Stream} == {
        "ORDER": 0, "CROP": 1, "QUALITY": 2, "NOISE": 3, "PATH_CROP": 4, "SHARE": 5,
        "DISCRIMINATOR": 6, "SAMPLES": 7,
    }  # fmt: skip
    assert torch_seed(7, Stream.NOISE, 3, 1) == 1671613828519552266
    assert generator(7, Stream.CROP, 5).integers(2**32) == 634492400


@pytest.mark.parametrize("number", [*range(FIRST_FREE), -1, 2**32, 2**32 + 1, 2**64])
def test_a_plugin_cannot_take_a_number_of_the_sdk(number):
    with pytest.raises(ValueError, match=f"stream {number}: the numbers below 32 are the SDK's"):
        plugin_generator(7, number, 5)


def test_a_plugins_stream_is_its_own():
    assert max(Stream) < FIRST_FREE
    own = plugin_generator(7, FIRST_FREE, 5).integers(2**62, size=4)
    assert np.array_equal(own, plugin_generator(7, FIRST_FREE, 5).integers(2**62, size=4))
    others = [generator(7, stream, 5) for stream in Stream]
    others += [plugin_generator(7, FIRST_FREE + 1, 5), plugin_generator(7, FIRST_FREE, 6)]
    assert all(not np.array_equal(own, other.integers(2**62, size=4)) for other in others)
