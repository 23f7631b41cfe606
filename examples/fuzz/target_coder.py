"""Range coder: hostile tables and streams, read strictly and with concealment."""

from __future__ import annotations

import random
from pathlib import Path

import bytes_mutations
import numpy as np

from mpa_core.bitstream.rangecoder import CdfTables, RangeDecoder, RangeEncoder, check_capacity
from mpa_core.errors import BitstreamError

MOST_SYMBOLS = 20_000
_HEAD = 16


class Target:
    """A case is 16 bytes of choices, then a stream."""

    limit_s = 5.0

    def __init__(self, _: Path) -> None:
        self._tables = [
            CdfTables([[0, 1, 2, 65536], [0, 1, 65536, 0]], [4, 3], [0, -7]),
            CdfTables([[0, 65535, 65536, 0, 0], [0, 20000, 40000, 60000, 65536]], [3, 5], [3, -2]),
            _gaussians(),
        ]

    def make(self, rng: random.Random) -> bytes:
        head = rng.randbytes(_HEAD)
        tables, rows, count = self._choices(head)
        kind = rng.randrange(4)
        if kind == 0:
            stream = rng.randbytes(4 * rng.randrange(200))
        elif kind == 1:
            stream = rng.randbytes(7) + b"\x7f" + b"\xff" * rng.randrange(2000)
        else:
            seeded = np.random.default_rng(rng.randrange(2**32))
            symbols = np.rint(seeded.normal(size=count) * rng.choice((0.1, 3, 200)))
            encoder = RangeEncoder()
            encoder.encode(symbols.astype(int), rows, tables)
            stream = bytes_mutations.mutate(encoder.finish(), rng)
        return head + (stream if rng.random() < 0.2 else stream[: len(stream) // 4 * 4])

    def prepare(self, case: bytes) -> bytes:
        return case

    def run(self, case: bytes) -> str:
        tables, rows, count = self._choices(case[:_HEAD].ljust(_HEAD, b"\0"))
        stream = case[_HEAD:]
        step = 1 + case[0] * 40 if case else 1
        concealing = RangeDecoder(stream, count, conceal=True)
        best = self._read(concealing, rows, tables, step)
        assert len(best) == count
        try:
            decoder = RangeDecoder(stream, count)
            symbols = self._read(decoder, rows, tables, step)
        except BitstreamError:
            assert concealing.damage
            raise
        assert concealing.report("stream") is None
        assert np.array_equal(best, symbols)
        check_capacity(stream, tables, np.bincount(rows, minlength=len(tables)), "a")
        return "accepted"

    def _read(
        self, decoder: RangeDecoder, rows: np.ndarray, tables: CdfTables, step: int
    ) -> np.ndarray:
        parts = [decoder.decode(rows[i : i + step], tables) for i in range(0, len(rows), step)]
        decoder.finish()
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)

    def _choices(self, head: bytes) -> tuple[CdfTables, np.ndarray, int]:
        tables = self._tables[head[1] % len(self._tables)]
        count = int.from_bytes(head[2:5], "little") % MOST_SYMBOLS >> head[5] % 14
        seeded = np.random.default_rng(list(head[6:]))
        rows = seeded.integers(0, len(tables), count)
        return tables, rows if head[5] & 0x80 else np.sort(rows), count

    def allowance(self, case: bytes) -> int:
        # Both decoders: the words, and a few integers for each symbol.
        return 16 * len(case) + 64 * MOST_SYMBOLS + 2**21


def _gaussians() -> CdfTables:
    """Rows of 3 to 800 intervals, as those of a Gaussian prior."""
    rows = []
    for scale in np.geomspace(0.3, 100, 12):
        reach = int(np.ceil(4 * scale))
        density = np.exp(-0.5 * (np.arange(-reach, reach + 1) / scale) ** 2)
        widths = np.maximum(np.floor(density / density.sum() * 60000), 1).astype(int)
        rows.append([0, *np.cumsum(widths).tolist(), 65536])
    table = np.zeros((len(rows), max(map(len, rows))), int)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return CdfTables(table, list(map(len, rows)), [-(len(row) - 3) // 2 for row in rows])
