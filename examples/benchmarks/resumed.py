"""Figures in a file of JSON lines, so that a benchmark of hours goes on where it was cut off."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mpa_core.tasks.photos import find_photos

Row = dict[str, Any]


def numbers(text: str) -> list[float]:
    """Read ``1,3,5``."""
    return [float(each) for each in text.split(",")]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what such benchmarks share: base, photos, threads and the file of figures."""
    parser.add_argument("--base", default="mpa-small")
    parser.add_argument("--photos", type=Path, required=True, help="a folder")
    parser.add_argument("--limit", type=int, help="only the first photos")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, resumed")


def photos_of(options: argparse.Namespace) -> list[Path]:
    """The photos to measure; TrainingError where there are none."""
    return [options.photos / name for name in find_photos(options.photos).names][: options.limit]


def centre(picture: Image.Image, side: int | None) -> Image.Image:
    """The middle of a picture, of ``side`` x ``side`` pixels; all of it where that is None."""
    if side is None:
        return picture
    left, top = ((length - side) // 2 for length in picture.size)
    return picture.crop((left, top, left + side, top + side))


class Figures:
    """The rows in a file that were measured with the same options.

    Args:
        out: the file; it may have rows of other options, which are left alone.
        options: what all rows have in common, such as the base.
        of: names of what tells a row from the others.
    """

    def __init__(self, out: Path, options: Row, of: Sequence[str]) -> None:
        self._out = out
        self._options = options
        self._of = of
        written = out.read_bytes() if out.exists() else b""
        whole = written[: written.rfind(b"\n") + 1]
        if whole != written:  # a line that was cut off, which the next one must not be joined to
            with out.open("r+b") as lines:
                lines.truncate(len(whole))
        rows = map(json.loads, whole.decode().splitlines())
        found = [row for row in rows if options.items() <= row.items()]
        self.rows = {self.key(row): row for row in found}

    def key(self, row: Row) -> tuple[Any, ...]:
        """What a row is of."""
        return tuple(row[name] for name in self._of)

    def add(self, row: Row) -> None:
        """Keep a row, here and in the file."""
        self.rows[self.key(row)] = row
        with self._out.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(self._options | row) + "\n")
