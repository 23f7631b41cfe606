"""Whole decodes: files forged with right checksums, so that the entropy decoder is reached."""

from __future__ import annotations

import random
from pathlib import Path

import mpa_mutations
import numpy as np
import torch

from mpa_core import MPACodec
from mpa_core.bitstream.container import MAX_PIXELS, peek_header

SIDES = ((1, 1), (16, 16), (40, 70), (64, 64), (100, 30))
"""Width and height of the pictures whose files are forged."""
BYTES_PER_PIXEL = 700
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
        picture = self._codec.decode(case, output="array")
        header = peek_header(case)
        assert picture.shape == (header.height, header.width, 3)
        return "accepted"

    def allowance(self, case: bytes) -> int:
        header = peek_header(case)
        padded = (-(-header.width // 64) * 64) * (-(-header.height // 64) * 64)
        declared = padded if header.width * header.height <= MAX_PIXELS else 0
        return BYTES_PER_PIXEL * declared + 400 * len(case) + 2**25
