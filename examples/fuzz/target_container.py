"""Container: forged and damaged files through ``peek_header``, ``unpack`` and ``salvage``.

Metadata of what is accepted are read, too, compressed ones with a limit of memory.
"""

from __future__ import annotations

import random
import zlib
from pathlib import Path

import bytes_mutations
import mpa_mutations

from mpa_core.bitstream.container import Container, pack, peek_header, unpack
from mpa_core.bitstream.metadata import MAX_BYTES, from_chunks, salvage_chunks, to_chunks
from mpa_core.bitstream.salvage import salvage
from mpa_core.errors import BitstreamError

_PLAIN = Container(
    fingerprint=bytes(range(8)),
    profile=0,
    quality=4.5,
    width=451,
    height=300,
    streams=(bytes(range(60)), b"the z stream"),
    symbols_crc=0xDEADBEEF,
)
SEEDS = tuple(
    pack(Container(**{**vars(_PLAIN), **change}))
    for change in (
        {},
        {"profile": 1, "width": 1, "height": 1, "streams": (b"", b"")},
        {"chunks": {b"ICCP": b"profile", b"EXIF": b"II*\0", b"noTE": b""}},
        {"chunks": {b"ICCZ": zlib.compress(b"profile" * 40), b"EXIZ": zlib.compress(b"II*\0" * 9)}},
    )
)


class Target:
    limit_s = 1.0

    def __init__(self, _: Path) -> None:
        pass

    def make(self, rng: random.Random) -> bytes:
        seed = rng.choice(SEEDS)
        return rng.choice((mpa_mutations.forge, bytes_mutations.mutate))(seed, rng)

    def prepare(self, case: bytes) -> bytes:
        return case

    def run(self, case: bytes) -> str:
        # The three must agree: a file that unpacks has a header, and nothing to put right.
        try:
            container = unpack(case)
        except BitstreamError:
            try:
                found = salvage(case)
            except BitstreamError:
                pass
            else:
                assert found.problems
                assert sum(map(len, found.container.streams)) <= len(case)
            raise
        assert peek_header(case).file_size == len(case)
        assert salvage(case).container == container
        # What is accepted means one thing: written again, in order, it is the same file.
        assert unpack(pack(container)) == container
        concealed, problems = salvage_chunks(container.chunks)
        try:
            metadata = from_chunks(container.chunks)
        except BitstreamError:
            assert problems
            assert None in concealed
            raise
        assert metadata == concealed
        assert not problems
        assert from_chunks(to_chunks(metadata)) == tuple(value or None for value in metadata)
        return "accepted"

    def allowance(self, case: bytes) -> int:
        # Each compressed chunk may stand for that much; it is read twice above, growing in pieces.
        compressed = sum(name in case for name in (b"ICCZ", b"EXIZ"))
        return 10 * len(case) + 2**20 + compressed * 5 * MAX_BYTES
