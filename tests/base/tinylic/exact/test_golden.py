"""Files of the exact profile written once decode to the same latents, to the bit, for ever."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from mpa_core import MPACodec
from mpa_core.bitstream.container import PROFILES, unpack

GOLDEN = Path(__file__).resolve().parents[3] / "golden/exact"
DIGESTS = json.loads((GOLDEN / "latents.json").read_text())


@cache
def codec_of(name: str) -> MPACodec:
    return MPACodec.from_pretrained("mpa-small" if name == "small" else GOLDEN / name)


@pytest.mark.parametrize("file", sorted(DIGESTS))
def test_latents(file):
    import hashlib

    data = (GOLDEN / file).read_bytes()
    assert PROFILES[unpack(data).profile] == "exact"
    y_hat = codec_of(file.split("-")[0]).open(data).latents()
    assert hashlib.sha256(y_hat.numpy().astype("<f4").tobytes()).hexdigest() == DIGESTS[file]


def test_there_are_files_of_both_bases():
    assert {name.split("-")[0] for name in DIGESTS} == {"small", "tiny"}
    assert len(DIGESTS) == len(list(GOLDEN.glob("*.mpa"))) == 8
