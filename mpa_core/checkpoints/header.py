"""The header of a safetensors file, read before the file is. No torch here.

safetensors itself checks what is in a file; this looks at what a file would cost, and at what JSON
leaves open, before anything of its size is allocated.
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
"""Most that a header may have: as JSON it takes many times its size. Ours have some 50 000."""
_MAX_DIMENSIONS = 8


@dataclass(frozen=True)
class Header:
    """What a safetensors file declares."""

    elements: int
    """Of all tensors together."""
    file_size: int
    """Bytes of the whole file."""


def read_header(file: Path) -> Header | None:
    """The header of ``file``; None where it is none, which safetensors then says better.

    Raises:
        CheckpointError: it cannot be read, is too large, names a tensor twice, or one has too many
            dimensions.
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
    except ValueError as error:  # a key twice, a number of too many digits
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
    """A JSON object whose keys differ; else a ValueError: readers would take different ones."""
    found = dict(pairs)
    if len(found) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"has the key {twice[:96]!r} twice")
    return found


def _refusal(file: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{file}: its header {what}, not as a checkpoint's; restore the file from its source"
    )
