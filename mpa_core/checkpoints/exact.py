"""The file ``exact.safetensors``: formats of the exact entropy profile, beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mpa_core.base.capabilities import ExactProfile
from mpa_core.checkpoints import tensors as tensor_io
from mpa_core.checkpoints.fingerprint import fingerprint
from mpa_core.checkpoints.meta import EXACT_FORMATS
from mpa_core.config import CHECKPOINT_FORMAT


def exact_fingerprint(tensors: Mapping[str, Tensor], formats: Mapping[str, Tensor]) -> str:
    """Return the fingerprint of a base in the exact profile: of tensors and formats together."""
    return fingerprint({**tensors, **formats})


def formats_file(formats: Mapping[str, Tensor], identity: str) -> bytes:
    """Return the bytes of ``exact.safetensors``; ``identity`` is the :func:`exact_fingerprint`."""
    return tensor_io.to_file(
        formats,
        {"format": CHECKPOINT_FORMAT, "kind": "exact", "fingerprint": identity},
    )


def read_formats(
    folder: Path, profile: ExactProfile, tensors: Mapping[str, Tensor], expected: str
) -> dict[str, Any]:
    """Read the formats of the base in ``folder``.

    Args:
        folder: folder of the base.
        profile: exact profile of the base, which has been built.
        tensors: tensors of the base.
        expected: its :func:`exact_fingerprint`, by ``config.json``.

    Raises:
        CheckpointError: the file is missing, damaged, or of another base.
    """
    file = folder / EXACT_FORMATS
    stored = tensor_io.read_file(file, "float32")
    formats = profile.from_tensors(stored, str(file))
    profile.check(formats, str(file))
    found = exact_fingerprint(tensors, stored)
    tensor_io.check_fingerprint(found, expected, str(file), "config.json (key exact)")
    return formats
