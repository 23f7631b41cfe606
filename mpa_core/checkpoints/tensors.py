"""Conversion of tensors between memory and safetensors files, with all checks of their layout."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as dump_safetensors
from torch import Tensor, nn

from mpa_core.arguments import as_choice, expect
from mpa_core.base.entropy import CDF_BUFFERS
from mpa_core.checkpoints.fingerprint import DTYPES
from mpa_core.checkpoints.header import read_header
from mpa_core.checkpoints.meta import StorageType, check_inside
from mpa_core.errors import CheckpointError

HALF_DIMS = (2, 4)
"""Numbers of dimensions of tensors that float16 storage rounds: matrices and convolution kernels.

The rest stays float32: it is small, and it includes the priors and tables of the entropy model."""

_SHOWN = 3


def stored(tensors: Mapping[str, Tensor], dtype: StorageType) -> dict[str, Tensor]:
    """Return the tensors for the file: contiguous copies, large floating tensors in ``dtype``.

    Raises:
        CheckpointError: a value is not finite, or too large for float16.
        ConfigError: there is no such ``dtype``.
    """
    as_choice(dtype, "dtype", ("float32", "float16"))
    check_finite(tensors, "the tensors to be saved")
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        value = tensor.detach().cpu()
        if dtype == "float16" and value.is_floating_point() and value.dim() in HALF_DIMS:
            value = value.half()
            if not bool(value.isfinite().all()):
                raise CheckpointError(
                    f"tensor {name!r} has values beyond the range of float16 (65504); "
                    "save with dtype='float32'"
                )
        # A clone, because safetensors refuses tensors that share memory.
        result[name] = value.contiguous().clone()
    return result


def used(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert stored tensors to those the model uses: float16 becomes float32."""
    return {n: t.float() if t.dtype == torch.float16 else t for n, t in tensors.items()}


def to_file(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """Return the bytes of a safetensors file; the metadata go under one key, ``mpa``, as JSON."""
    text = json.dumps(metadata, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return bytes(dump_safetensors(dict(tensors), metadata={"mpa": text}))


def read_file(file: Path, dtype: StorageType) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, as the model uses them; nothing is ever unpickled.

    Raises:
        CheckpointError: the file is missing, no safetensors file, cut short, of another storage
            type than its config says, or holds NaN or infinity.
    """
    if not file.is_file():
        others = sorted(p.name for p in file.parent.iterdir() if p.suffix in _PICKLES)
        hint = f"; {', '.join(others)} will not be read (pickle)" if others else ""
        raise CheckpointError(
            f"{file.parent} has no {file.name}{hint}; restore the file from its source"
        )
    check_inside(file)
    header = read_header(file)
    size = file.stat().st_size
    if header is not None and header.file_size != size:
        raise CheckpointError(
            f"{file} is not a whole safetensors file ({size} bytes, its header asks for "
            f"{header.file_size}); restore the file from its source"
        )
    try:
        with file.open("rb") as handle:
            # The beginning suffices to describe another file, whose rest may be of any size.
            data = handle.read() if header is not None else handle.read(2**16)
    except (OSError, MemoryError) as error:
        raise CheckpointError(
            f"{file} cannot be read ({error or 'out of memory'}); check its size and permissions"
        ) from error
    try:
        tensors = parse_safetensors(data)
    except (SafetensorError, KeyError, ValueError) as error:
        # Judged only after safetensors refused: its own header may begin with the same bytes.
        if data[:2] == b"PK" or data[:1] == b"\x80":
            raise CheckpointError(
                f"{file} is a pickle, expected safetensors; nothing here is ever unpickled: "
                "convert an authors' checkpoint with: mpa import-official FILE OUT"
            ) from error
        raise CheckpointError(
            f"{file} is not a whole safetensors file ({size} bytes: {error}); "
            "restore the file from its source"
        ) from error
    allowed = {*DTYPES, torch.float16} if dtype == "float16" else set(DTYPES)
    for name, tensor in tensors.items():
        if tensor.dtype not in allowed:
            raise CheckpointError(
                f"{file}: tensor {name!r} is {tensor.dtype}, its config says storage is {dtype}; "
                "restore both files from their source"
            )
    check_finite(tensors, str(file))
    return used(tensors)


_PICKLES = {".bin", ".pt", ".pth", ".tar", ".ckpt", ".pkl", ".pickle"}


def check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse tensors with NaN or infinity.

    Raises:
        CheckpointError: the message names the first of them, and ``source``.
    """
    bad = [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ]
    if bad:
        raise CheckpointError(
            f"{source}: NaN or infinity in {_some(bad)}; use weights from before training diverged"
        )


def check_layout(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str
) -> None:
    """Check that names, shapes and element types are exactly those of the built model.

    The sizes of the integer CDF tables follow from the weights, so only their type is checked.

    Raises:
        CheckpointError: the message lists the first few differences.
    """
    what = "tensors by name"
    expect(tensors, Mapping, source, what, CheckpointError)
    for name, tensor in tensors.items():
        expect(name, str, f"{source}: a name", "text (str)", CheckpointError)
        expect(tensor, Tensor, f"{source}: {name!r}", what, CheckpointError)
    missing = sorted(set(expected) - set(tensors))
    unexpected = sorted(set(tensors) - set(expected))
    if missing or unexpected:
        parts = [f"missing {_some(missing)}"] if missing else []
        parts += [f"unexpected {_some(unexpected)}"] if unexpected else []
        raise CheckpointError(
            f"{source}: {' and '.join(parts)}; expected exactly the {len(expected)} tensors of the "
            "configured model: config and weights must come from the same save"
        )
    for name, want in expected.items():
        have = tensors[name]
        is_table = name.rpartition(".")[2] in CDF_BUFFERS
        if have.dtype != want.dtype or (have.shape != want.shape and not is_table):
            shape = "any shape" if is_table else list(want.shape)
            raise CheckpointError(
                f"{source}: tensor {name!r} is {have.dtype} {list(have.shape)}, expected "
                f"{want.dtype} {shape}: config and weights must come from the same save"
            )
        if is_table and not have.numel():
            raise CheckpointError(
                f"{source}: the CDF table {name!r} is empty, expected the tables of the trained "
                "model; call model.update() before saving"
            )


def check_buildable(
    build: Callable[[], nn.Module], tensors: Mapping[str, Tensor], source: str
) -> None:
    """Refuse tensors that do not fit the module that ``build`` makes, before it is made.

    It is built on torch's ``meta`` device, where tensors have shapes and no memory: a forged config
    can describe a module of any size.

    Raises:
        CheckpointError: as :func:`check_layout`.
    """
    with torch.device("meta"):
        expected = build().state_dict()
    check_layout(tensors, expected, source)


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Fill ``module`` with ``tensors``, which must match it exactly.

    Raises:
        CheckpointError: as :func:`check_layout`.
    """
    check_layout(tensors, module.state_dict(), source)
    module.load_state_dict(dict(tensors), strict=True)


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    rest = len(names) - _SHOWN
    return f"{shown} and {rest} more" if rest > 0 else shown


def check_fingerprint(found: str, expected: str, source: str, config_name: str) -> None:
    """Refuse tensors other than those their config was written for.

    Raises:
        CheckpointError: the fingerprints differ; the message names ``source`` and the config.
    """
    if found != expected:
        raise CheckpointError(
            f"{source} has fingerprint {found[:16]}…, its {config_name} says "
            f"{expected[:16]}…: one of them is damaged or from another save; "
            "restore both from their source"
        )
