"""``exact.safetensors``: formats of the exact entropy profile, beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mpa_core.base.tinylic.codec import BaseCodec
from mpa_core.base.tinylic.exact.fixed import Format
from mpa_core.base.tinylic.exact.formats import check_layers, from_tensors, to_tensors
from mpa_core.checkpoints import tensors as tensor_io
from mpa_core.checkpoints.fingerprint import fingerprint
from mpa_core.checkpoints.meta import EXACT_FORMATS
from mpa_core.config import CHECKPOINT_FORMAT


def exact_fingerprint(tensors: Mapping[str, Tensor], formats: Mapping[str, Format]) -> str:
    """Identity of a base in the exact profile: its tensors and the formats together."""
    return fingerprint({**tensors, **to_tensors(formats)})


def formats_file(formats: Mapping[str, Format], identity: str) -> bytes:
    """Content of ``exact.safetensors``; ``identity`` is the :func:`exact_fingerprint`."""
    return tensor_io.to_file(
        to_tensors(formats),
        {"format": CHECKPOINT_FORMAT, "kind": "exact", "fingerprint": identity},
    )


def read_formats(
    folder: Path, base: BaseCodec, tensors: Mapping[str, Tensor], expected: str
) -> dict[str, Format]:
    """Formats of the base in ``folder``.

    Args:
        folder: of the base.
        base: built.
        tensors: of the base.
        expected: its :func:`exact_fingerprint`, by ``config.json``.

    Raises:
        CheckpointError: no such file, damaged, or of another base.
    """
    file = folder / EXACT_FORMATS
    formats = from_tensors(tensor_io.read_file(file, "float32"), str(file))
    check_layers(base, formats, str(file))
    found = exact_fingerprint(tensors, formats)
    tensor_io.check_fingerprint(found, expected, str(file), "config.json (key exact)")
    return formats
