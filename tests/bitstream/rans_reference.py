"""An independent reader and writer of streams, written from docs/spec/bitstream.md alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Row:
    """One CDF row: ``cdf`` from 0 to 65536, its first symbol is ``offset``."""

    cdf: list[int]
    offset: int


def arrays(rows: list[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(quantized_cdf, cdf_length, offset) as a checkpoint stores them."""
    cdf = np.zeros((len(rows), max(len(r.cdf) for r in rows)), np.int32)
    for i, row in enumerate(rows):
        cdf[i, : len(row.cdf)] = row.cdf
    lengths = np.array([len(r.cdf) for r in rows], np.int32)
    return cdf, lengths, np.array([r.offset for r in rows], np.int32)


def encode(symbols: list[int], indexes: list[int], rows: list[Row]) -> bytes:
    steps: list[tuple[int, int, int]] = []  # start, width, total bits
    for symbol, index in zip(symbols, indexes, strict=True):
        row = rows[index]
        last = len(row.cdf) - 2
        value = symbol - row.offset
        extra = None
        if value < 0:
            extra, value = 2 * -value - 1, last
        elif value >= last:
            extra, value = 2 * (value - last), last
        steps.append((row.cdf[value], row.cdf[value + 1] - row.cdf[value], 16))
        if extra is not None:
            digits = []
            while extra:
                digits.append(extra % 16)
                extra //= 16
            steps += [(d, 1, 4) for d in [len(digits), *digits]]
    return write(steps)


def write(steps: list[tuple[int, int, int]]) -> bytes:
    """The stream of coder operations (start, width, total bits), in decoding order."""
    state, words = 1 << 31, []
    for start, width, bits in reversed(steps):
        if state >> (63 - bits) >= width:
            words.append(state % 2**32)
            state //= 2**32
        quotient, rest = divmod(state, width)
        state = quotient * 2**bits + start + rest
    words += [state // 2**32, state % 2**32]
    return b"".join(w.to_bytes(4, "little") for w in reversed(words))


def decode(data: bytes, indexes: list[int], rows: list[Row]) -> tuple[list[int], int, int]:
    """The symbols, the final state, and how many words were read past the end (as zeros)."""
    words = [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]
    state, position = words[0] + words[1] * 2**32, 2

    def refill() -> None:
        nonlocal state, position
        if state < 2**31:
            state = state * 2**32 + (words[position] if position < len(words) else 0)
            position += 1

    def nibble() -> int:
        nonlocal state
        value, state = state % 16, state // 16
        refill()
        return value

    out = []
    for index in indexes:
        row = rows[index]
        low = state % 65536
        interval = max(i for i, bound in enumerate(row.cdf) if bound <= low)
        start, width = row.cdf[interval], row.cdf[interval + 1] - row.cdf[interval]
        state = width * (state // 65536) + low - start
        refill()
        if interval == len(row.cdf) - 2:
            count = digit = nibble()
            while digit == 15:
                digit = nibble()
                count += digit
            extra = sum(nibble() * 16**i for i in range(count))
            interval = -(extra + 1) // 2 if extra % 2 else interval + extra // 2
        out.append(interval + row.offset)
    return out, state, max(0, position - len(words))


# An escape with 40 nibbles of value, one in the eighth set: nothing a symbol can hold.
_COUNT_OF_40 = [15, 15, 10]
IMPOSSIBLE = (
    Row([0, 32768, 65536], 0),
    write(
        [(32768, 32768, 16)]
        + [(nibble, 1, 4) for nibble in [*_COUNT_OF_40, *[0] * 6, 0, 8, *[0] * 32]]
    ),
)
"""A row, and a well-formed stream of one symbol that is out of the coder's reach."""
