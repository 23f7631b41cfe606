"""Writes the golden files of container version 1: ``python tests/bitstream/make_golden.py FOLDER``.

The committed files are never made again: version 1 is read, and written, this way forever.
The tests check that today's code still gives the same bytes.
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path

import numpy as np

from mpa_core.bitstream.container import Container, pack
from mpa_core.bitstream.rangecoder import CdfTables, RangeEncoder

CDF = [[0, 9000, 50000, 65000, 65536, 0], [0, 1, 2, 3, 30000, 65536]]
LENGTH = [5, 6]
OFFSET = [-1, -3]


def tables() -> CdfTables:
    return CdfTables(np.array(CDF), np.array(LENGTH), np.array(OFFSET))


def stream(symbols: list[int], indexes: list[int]) -> bytes:
    encoder = RangeEncoder()
    encoder.encode(np.array(symbols, np.int32), np.array(indexes, np.int32), tables())
    return encoder.finish()


def cases() -> dict[str, dict]:
    """Name to the content of the file, as JSON holds it."""
    fingerprint = bytes(range(0xA0, 0xA8)).hex()
    many = [((i * i) % 7) - 3 for i in range(40)]
    plain = {
        "fingerprint": fingerprint,
        "quality": 4.5,
        "width": 451,
        "height": 300,
        "y": [[0, 1, 0, -1, 1, 0, 2, 0], [0, 0, 0, 0, 1, 1, 1, 1]],
        "z": [[1, 0, 0, 1], [0, 0, 1, 1]],
        "chunks": {},
    }
    return {
        "plain": plain,
        "smallest": {
            **plain,
            "quality": 1,
            "width": 1,
            "height": 1,
            "y": [[0], [0]],
            "z": [[], []],
        },
        "largest_fields": {
            **plain,
            "fingerprint": "ff" * 8,
            "quality": 8,
            "width": 9_000,
            "height": 9_000,
        },
        "escapes": {
            **plain,
            "quality": 1 + 1 / 4096,
            "y": [
                [-(2**27) - 1, 2**27 + 1, 5, -5, *many],
                [0, 0, 1, 1] + [i % 2 for i in range(40)],
            ],
        },
        "chunks": {**plain, "chunks": {"ICCP": "00ff10", "EXIF": "4949", "noTE": ""}},
        "compressed": {
            **plain,
            # As bytes, since other versions of zlib make others.
            "chunks": {
                "ICCZ": "78da4b542828ca4fcbcc495548c4cb020026370e49",
                "EXIZ": "78daf3f4d462201600001fdf00bd",
            },
        },
    }


def build(case: dict) -> bytes:
    y, z = case["y"], case["z"]
    crc = zlib.crc32(np.array(z[0] + y[0], "<i4").tobytes())
    return pack(
        Container(
            fingerprint=bytes.fromhex(case["fingerprint"]),
            profile=0,
            quality=case["quality"],
            width=case["width"],
            height=case["height"],
            streams=(stream(*y), stream(*z)),
            symbols_crc=crc,
            chunks={k.encode(): bytes.fromhex(v) for k, v in case["chunks"].items()},
        )
    )


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, case in cases().items():
        (folder / f"v1_{name}.mpa").write_bytes(build(case))
    (folder / "v1.json").write_text(json.dumps(cases(), indent=1) + "\n", encoding="utf-8")
