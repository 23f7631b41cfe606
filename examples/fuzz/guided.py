"""The targets of ``campaign.py`` under atheris, which follows the branches that inputs take.

    pip install "mpa-core[fuzz]"          # Linux, Python 3.11 or later
    python examples/fuzz/guided.py TARGET [-max_total_time=60] [-runs=N] [libFuzzer's options]

TARGET is one of: container, coder, decode, image. libFuzzer changes bytes as it likes; what it
makes of an ``.mpa`` file gets right checksums for every other input, so that its changes reach what
lies behind them. Whatever escapes that is no child of MPAError, any crash, and any input that takes
longer than ``-timeout`` ends the run and is written to the current folder. It starts from a few
hundred inputs of the campaign, in a folder of its own.
"""

from __future__ import annotations

import importlib
import random
import struct
import sys
import tempfile
import zlib
from contextlib import suppress
from pathlib import Path

import atheris

TARGETS = ("container", "coder", "decode", "image")
SEEDS = 300
_FIXED_BYTES, _COUNTS_AT = 34, 32


def with_checksums(data: bytes) -> bytes:
    """``data`` with the length of its last stream and both checksums made right, if it can be."""
    if len(data) < _FIXED_BYTES + 12:
        return data
    size = _FIXED_BYTES + 8 * data[_COUNTS_AT] + 4 * data[_COUNTS_AT + 1]
    if data[_COUNTS_AT + 1] != 2 or len(data) < size + 4:
        return data
    lengths = [
        struct.unpack_from("<I", data, _FIXED_BYTES + 8 * i + 4)[0] for i in range(data[_COUNTS_AT])
    ]
    lengths.append(struct.unpack_from("<I", data, size - 8)[0])
    payload = data[size + 4 :]
    last = max(len(payload) - sum(lengths), 0)
    header = bytearray(data[:size])
    struct.pack_into("<I", header, 28, zlib.crc32(payload))
    struct.pack_into("<I", header, size - 4, last)
    return bytes(header) + struct.pack("<I", zlib.crc32(header)) + payload


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in TARGETS:
        sys.exit(f"name a target: {', '.join(TARGETS)}")
    with atheris.instrument_imports(include=["mpa_core", "PIL"]):
        from mpa_core.errors import MPAError

        module = importlib.import_module(f"target_{name}")
    forged = name in ("container", "decode")
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Path(scratch, "corpus")
        corpus.mkdir()
        target = module.Target(Path(scratch))
        for seed in range(SEEDS):
            (corpus / str(seed)).write_bytes(target.make(random.Random(seed)))  # noqa: S311

        def one_input(data: bytes) -> None:
            if forged and data[-1:] and data[-1] % 2:
                data = with_checksums(data)
            with suppress(MPAError):
                target.run(target.prepare(data))

        atheris.Setup([sys.argv[0], *sys.argv[2:], str(corpus)], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
