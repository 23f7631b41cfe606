"""A store of encoded files, by their encoder: a slow encoder runs once per picture."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpa_core.errors import OutputError
from mpa_core.io.files import write_bytes
from mpa_core.io.pixels import picture_digest

INDEX = "seconds.jsonl"
_DIGITS = 16


@dataclass(frozen=True)
class KeptFile:
    """An encoded picture."""

    data: bytes
    seconds: float | None
    """Processor time of encoding, in seconds; None if it was not recorded."""


def digest(image: NDArray[np.uint8]) -> str:
    """Return 16 hex digits that identify a picture [H, W, 3] by its pixels."""
    return picture_digest(image)[:_DIGITS]


def key_of(source: Mapping[str, Any]) -> str:
    """Return 16 hex digits that identify the origin of a file: a codec's version and options."""
    canonical = json.dumps(source, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:_DIGITS]


def cpu_seconds() -> float:
    """Return the processor time so far, of all threads and of programs that were run and ended.

    Unlike the time of day it measures cost on a machine that also does other work.
    """
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


class KeptFiles:
    """A folder of encoded pictures, ``<codec>-<key>/<setting>/<picture><suffix>``.

    Raises:
        OutputError: it cannot be written, when a file is added.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seconds: dict[str, float | None] = {}
        index = folder / INDEX
        if index.is_file():
            for line in index.read_text(encoding="utf-8").splitlines():
                # A line that a crash cut short belongs to a file that is written again.
                try:
                    name, seconds = json.loads(line)
                except ValueError:
                    continue
                self._seconds[name] = seconds

    def get(self, name: str, encode: Callable[[], bytes]) -> KeptFile:
        """Return the file ``name`` (a relative path), encoded now if it does not exist."""
        path = self.folder / name
        if name in self._seconds and path.is_file():
            return KeptFile(path.read_bytes(), self._seconds[name])
        start = cpu_seconds()
        data = encode()
        seconds = round(cpu_seconds() - start, 4)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, data)
            with (self.folder / INDEX).open("a", encoding="utf-8") as index:
                index.write(json.dumps([name, seconds]) + "\n")
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(
                f"cannot write {path}: {error.strerror}; check the folder and the space left"
            ) from error
        self._seconds[name] = seconds
        return KeptFile(data, seconds)

    def sizes(self, folder: str, picture: str, suffix: str) -> dict[int, int]:
        """Return the size in bytes of each kept file of one picture in ``folder``, by setting."""
        found = (self.folder / folder).glob(f"*/{picture}{suffix}")
        return {int(path.parent.name): path.stat().st_size for path in found}
