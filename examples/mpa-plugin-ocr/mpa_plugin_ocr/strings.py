"""What is written on the pictures: words, numbers and codes, drawn from a generator."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

LONGEST = 14
"""Most characters in a line."""

CODE_CHARACTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"
"""Without I and O, as on number plates: they are the digits 1 and 0 in many fonts."""

CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.:-/%$"
"""All that occurs; a font has to have them. No spaces: where one is, is a matter of opinion."""


@cache
def words() -> tuple[str, ...]:
    """Common English words in small letters."""
    return tuple((Path(__file__).parent / "words.txt").read_text(encoding="utf-8").split())


def draw_string(random: np.random.Generator) -> str:
    """A string of 2 to :data:`LONGEST` of :data:`CHARACTERS`.

    Half are words, in one of three kinds of letters; the others are numbers, prices, times, dates
    and codes, of which no character tells what the next one is.
    """
    if random.random() < 0.5:
        word = words()[int(random.integers(len(words())))]
        return (word, word.upper(), word.capitalize())[int(random.integers(3))]

    def number(digits: int) -> str:
        return "".join(str(digit) for digit in random.integers(0, 10, digits))

    kind = int(random.integers(6))
    if kind == 0:
        return number(int(random.integers(2, 7)))
    if kind == 1:
        return f"${number(int(random.integers(1, 4)))}.{number(2)}"
    if kind == 2:
        return f"{int(random.integers(24)):02d}:{int(random.integers(60)):02d}"
    if kind == 3:
        return f"{int(random.integers(1, 29)):02d}/{int(random.integers(1, 13)):02d}/{number(4)}"
    if kind == 4:
        return f"{number(2)}%"
    letters = "".join(random.choice(list(CODE_CHARACTERS), int(random.integers(2, 5))))
    return f"{letters}-{number(int(random.integers(2, 5)))}"
