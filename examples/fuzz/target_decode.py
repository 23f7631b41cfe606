"""Whole decodes: files forged with right checksums, so that the entropy decoder is reached."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import mpa_mutations
import numpy as np
import torch

from mpa_core import MPACodec
from mpa_core.bitstream.container import MAX_PIXELS, peek_header
from mpa_core.errors import DamageWarning

SIDES = ((1, 1), (16, 16), (40, 70), (64, 64), (100, 30))
"""Width and height of the pictures whose files are forged."""
MOST_PIXELS_CONCEALED = 2**18
"""A truncated file may be of any size up to the limit, and all of it is decoded: minutes."""
BYTES_PER_PIXEL = 200
"""Most that decoding with ``mpa-tiny`` takes per pixel of the declared, padded picture."""


class Target:
    limit_s = 20.0

    def __init__(self, _: Path) -> None:
        torch.set_num_threads(1)
        self._codec = MPACodec.from_preset("mpa-tiny")
        rng = np.random.default_rng(0)
        self._seeds = []
        for profile in ("exact", "float"):
            for width, height in SIDES:
                # A ramp with noise: neither flat nor incompressible.
                ramp = np.linspace(0, 200, height * width * 3).reshape(height, width, 3)
                picture = (ramp + rng.integers(0, 50, ramp.shape)).astype(np.uint8)
                for quality in (1, 4.5, 8):
                    self._seeds.append(self._codec.encode(picture, quality, profile=profile))
        for seed in self._seeds:
            self._codec.decode(seed, output="array")

    def make(self, rng: random.Random) -> bytes:
        return mpa_mutations.forge_decodable(rng.choice(self._seeds), rng)

    def prepare(self, case: bytes) -> bytes:
        return case

    def run(self, case: bytes) -> str:
        header = peek_header(case)
        shape = (header.height, header.width, 3)
        concealed = case[-1:] < b"\x40" and _padded(case) <= MOST_PIXELS_CONCEALED
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            picture = self._codec.decode(
                case, output="array", errors="conceal" if concealed else "strict"
            )
        assert picture.shape == shape
        # Whoever asks for concealment gets a picture, and a warning if it may be wrong.
        assert all(warning.category is DamageWarning for warning in caught)
        assert concealed or not caught
        return "accepted, concealed" if caught else "accepted"

    def allowance(self, case: bytes) -> int:
        padded = _padded(case)
        declared = padded if padded <= 2 * MAX_PIXELS + 2**20 else 0
        return BYTES_PER_PIXEL * declared + 400 * len(case) + 2**25


def _padded(case: bytes) -> int:
    """Pixels that the file declares, with their padding."""
    header = peek_header(case)
    return (-(-header.width // 64) * 64) * (-(-header.height // 64) * 64)
