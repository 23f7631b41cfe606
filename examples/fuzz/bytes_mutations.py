"""Damage that needs no knowledge of a format: what disks, networks and random writers do."""

from __future__ import annotations

import random
from collections.abc import Callable

INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1)
"""Values at which counters, signs and lengths turn over."""


def flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def set_bytes(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    for i in range(start, min(len(data), start + rng.choice((1, 2, 4, 16)))):
        data[i] = rng.randrange(256)


def fill(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    stop = rng.randint(start, len(data))
    data[start:stop] = bytes([rng.choice((0, 0xFF, 0x80))]) * (stop - start)


def set_integer(data: bytearray, rng: random.Random) -> None:
    size = rng.choice((2, 4))
    at = rng.randrange(len(data))
    value = rng.choice(INTERESTING) % 256**size
    data[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))[: len(data) - at]


def cut_out(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.choice((1, 3, 4, 64))]


def truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def insert(data: bytearray, rng: random.Random) -> None:
    at = rng.randint(0, len(data))
    data[at:at] = rng.randbytes(rng.choice((1, 4, 100)))


def repeat(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    part = data[start : start + rng.choice((1, 8, 64, 1000))]
    data[start:start] = part * rng.choice((1, 2, 20))


def move(data: bytearray, rng: random.Random) -> None:
    start, target = rng.randrange(len(data)), rng.randrange(len(data))
    part = data[start : start + rng.choice((1, 8, 64))]
    data[target : target + len(part)] = part


KINDS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_bits,
    set_bytes,
    fill,
    set_integer,
    cut_out,
    truncate,
    insert,
    repeat,
    move,
)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """``data`` with one to three of these done to it."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if changed:
            rng.choice(KINDS)(changed, rng)
    return bytes(changed)
