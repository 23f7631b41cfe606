"""Forged ``.mpa`` files: fields changed one by one, checksums and lengths made to agree or not.

A file that is merely damaged fails at its checksums; a hostile writer computes them. So a valid
file is taken apart into its fields, some are changed, and it is put together again, in the end with
right checksums in most cases, so that the checks behind them are reached.
"""

from __future__ import annotations

import random
import struct
import zlib
from dataclasses import dataclass, field

import bytes_mutations

_FIXED = struct.Struct("<4sBB8sHIIIIBB")
_U32 = 2**32 - 1
BOMBS = tuple(zlib.compress(bytes(size), 9) for size in (2**20, 2**24, 2**24 + 1, 2**26))
"""Small chunks that stand for much."""


@dataclass
class Parts:
    """An ``.mpa`` file as its fields, any of which may be changed to what no writer writes."""

    magic: bytes
    version: int
    profile: int
    fingerprint: bytes
    quality: int
    width: int
    height: int
    symbols_crc: int
    chunks: list[tuple[bytes, bytes]]
    streams: list[bytes]
    declared: dict[str, int] = field(default_factory=dict)
    """What the header says instead of the truth, by the name of a length or count."""

    @classmethod
    def of(cls, data: bytes) -> Parts:
        """Take a valid file apart."""
        *fixed, symbols, _, chunk_count, stream_count = _FIXED.unpack_from(data)
        at = _FIXED.size
        table = [struct.unpack_from("<4sI", data, at + 8 * i) for i in range(chunk_count)]
        at += 8 * chunk_count
        lengths = struct.unpack_from(f"<{stream_count}I", data, at)
        at += 4 * stream_count + 4
        parts = []
        for length in [length for _, length in table] + list(lengths):
            parts.append(data[at : at + length])
            at += length
        chunks = [(name, part) for (name, _), part in zip(table, parts, strict=False)]
        return cls(*fixed, symbols, chunks, parts[chunk_count:])

    def join(self, *, header_crc: bool = True, payload_crc: bool = True) -> bytes:
        """The file; either checksum is right or off by one."""
        say = self.declared.get
        payload = b"".join([*(data for _, data in self.chunks), *self.streams])
        header = _FIXED.pack(
            self.magic,
            self.version,
            self.profile,
            self.fingerprint,
            self.quality,
            self.width & _U32,
            self.height & _U32,
            self.symbols_crc,
            (zlib.crc32(payload) + (not payload_crc)) & _U32,
            say("chunks", len(self.chunks)) & 0xFF,
            say("streams", len(self.streams)) & 0xFF,
        )
        for i, (name, data) in enumerate(self.chunks):
            header += struct.pack("<4sI", name, say(f"chunk {i}", len(data)) & _U32)
        for i, data in enumerate(self.streams):
            header += struct.pack("<I", say(f"stream {i}", len(data)) & _U32)
        crc = (zlib.crc32(header) + (not header_crc)) & _U32
        return header + struct.pack("<I", crc) + payload


def forge_header(parts: Parts, rng: random.Random) -> None:
    """Change one field of the header."""
    name = rng.choice(("magic", "version", "profile", "fingerprint", "quality", "size", "crc"))
    if name == "magic":
        parts.magic = rng.choice((b"\x89PNG", b"RIFF", rng.randbytes(4)))
    elif name == "version":
        parts.version = rng.choice((0, 2, 255))
    elif name == "profile":
        parts.profile = rng.choice((0, 1, 2, 255))
    elif name == "fingerprint":
        parts.fingerprint = rng.randbytes(8)
    elif name == "quality":
        parts.quality = rng.choice((0, 4095, 4096, 32768, 32769, 65535, rng.randrange(65536)))
    elif name == "size":
        forge_size(parts, rng)
    else:
        parts.symbols_crc = rng.randrange(2**32)


def forge_size(parts: Parts, rng: random.Random) -> None:
    """Declare another picture: another shape, a few pixels more, or all that a field can hold."""
    sides = (0, 1, 63, 64, 65, parts.width + 1, parts.width * 2, 512, 9459, 65535, 2**31, _U32)
    if rng.random() < 0.6:
        parts.width = rng.choice(sides)
    if rng.random() < 0.6:
        parts.height = rng.choice(sides)


def forge_lengths(parts: Parts, rng: random.Random) -> None:
    """Declare counts and lengths that the file does not have."""
    names = ["chunks", "streams", *(f"stream {i}" for i in range(len(parts.streams)))]
    names += [f"chunk {i}" for i in range(len(parts.chunks))]
    name = rng.choice(names)
    truth = {"chunks": len(parts.chunks), "streams": len(parts.streams)}.get(name, 100)
    parts.declared[name] = rng.choice((truth + 1, truth - 1, *bytes_mutations.INTERESTING))


def forge_chunks(parts: Parts, rng: random.Random) -> None:
    """Add, repeat or rename metadata, or change what a compressed chunk has, bombs included."""
    if parts.chunks and rng.random() < 0.5:
        i = rng.randrange(len(parts.chunks))
        name, data = parts.chunks[i]
        forged = rng.choice((bytes_mutations.mutate(data, rng), data + data, data[:-1], *BOMBS))
        parts.chunks[i] = (rng.choice((name, b"ICCZ", b"EXIZ")), forged)
        return
    known = (b"ICCP", b"EXIF", b"ICCZ", b"EXIZ")
    names = (*known, b"QQQQ", b"noTE", b"ab\xffd", b"1234", b"\0\0\0\0", rng.randbytes(4))
    for _ in range(rng.choice((1, 1, 2, 254))):
        parts.chunks.append((rng.choice(names), rng.randbytes(rng.choice((0, 1, 40)))))


def forge_stream(parts: Parts, rng: random.Random) -> None:
    """Change the range-coded bytes of one stream, keeping whole words or not."""
    i = rng.randrange(len(parts.streams))
    data = bytes_mutations.mutate(parts.streams[i], rng)
    parts.streams[i] = data if rng.random() < 0.3 else data[: len(data) // 4 * 4]


def forge_streams(parts: Parts, rng: random.Random) -> None:
    """Swap the streams, empty one, or replace one by random words."""
    i = rng.randrange(len(parts.streams))
    parts.streams[i] = rng.choice(
        (
            parts.streams[1 - i] if len(parts.streams) == 2 else b"",
            b"",
            b"\0\0\0\x80\0\0\0\0",
            rng.randbytes(6) + b"\0\0" + rng.randbytes(4 * rng.randrange(40)),
            b"\xff" * 7 + b"\x7f" + b"\xff" * 4 * rng.randrange(100),
        )
    )


def forge(data: bytes, rng: random.Random) -> bytes:
    """A forged file: most with right checksums, some damaged after all was done."""
    parts = Parts.of(data)
    kinds = (forge_header, forge_lengths, forge_chunks, forge_stream, forge_streams)
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice(kinds)(parts, rng)
    forged = parts.join(header_crc=rng.random() < 0.9, payload_crc=rng.random() < 0.9)
    return bytes_mutations.mutate(forged, rng) if rng.random() < 0.2 else forged


def forge_decodable(data: bytes, rng: random.Random) -> bytes:
    """A forged file that no check of the container refuses: it reaches the entropy decoder."""
    parts = Parts.of(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        kind = rng.randrange(8)
        if kind < 4:
            forge_stream(parts, rng)
        elif kind < 6:
            forge_streams(parts, rng)
        elif kind < 7:
            parts.quality = rng.randint(4096, 32768)
        else:
            forge_size(parts, rng)
    parts.width, parts.height = (min(max(n, 1), _U32) for n in (parts.width, parts.height))
    return parts.join()
