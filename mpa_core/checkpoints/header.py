"""The header of a safetensors file, read and checked before the rest; imports no torch.

safetensors itself checks the contents of a file. This module checks how much memory a file would
take, and ambiguities that JSON allows, before anything of the file's size is allocated.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpa_core.errors import CheckpointError

_MAX_BYTES = 2**20
"""Largest header in bytes: parsed JSON takes many times its size. Ours have some 50 000."""
_MAX_DIMENSIONS = 8


@dataclass(frozen=True)
class Header:
    """The sizes that a safetensors file declares."""

    elements: int
    """Number of elements of all tensors together."""
    file_size: int
    """Size of the whole file in bytes."""


def read_header(file: Path) -> Header | None:
    """Read the header of ``file``.

    Returns:
        The header; None where it is not valid, since safetensors then gives the better message.

    Raises:
        CheckpointError: the file cannot be read, the header is too large or names a tensor twice,
            or a tensor has too many dimensions.
    """
    try:
        with file.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            present = file.stat().st_size - 8
            if not 2 <= length <= present:
                return None
            if length > _MAX_BYTES:
                if handle.read(1) != b"{":
                    return None
                raise _refusal(file, f"has {length} bytes")
            text = handle.read(length)
    except OSError as error:
        raise CheckpointError(
            f"{file} cannot be read ({error.strerror}); check its permissions"
        ) from error
    try:
        entries = json.loads(text.decode(), object_pairs_hook=unique_keys)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        return None
    except ValueError as error:  # a key that occurs twice, or a number of too many digits
        raise _refusal(file, str(error)) from error
    if not isinstance(entries, dict):
        return None
    elements = end = 0
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        try:
            shape = [int(side) for side in entry["shape"]]
            end = max(end, int(entry["data_offsets"][1]))
        except (TypeError, ValueError, LookupError, OverflowError):
            return None
        if len(shape) > _MAX_DIMENSIONS:
            raise _refusal(file, f"has a tensor of {len(shape)} dimensions, {name[:96]!r}")
        elements += math.prod(shape)
    return Header(elements, 8 + length + end)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object, for ``object_pairs_hook``; the keys have to differ.

    Raises:
        ValueError: a key occurs twice; programs would differ in which value they take.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"has the key {twice[:96]!r} twice")
    return found


def _refusal(file: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{file}: its header {what}, not as a checkpoint's; restore the file from its source"
    )
