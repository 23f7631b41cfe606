"""Base folders: ``config.json``, ``model.safetensors``, ``README.md``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mpa_core.config import BaseConfig
from mpa_core.fingerprint import fingerprint
from mpa_core.hub import tensors as tensor_io
from mpa_core.hub.cards import base_card
from mpa_core.hub.locate import resolve
from mpa_core.hub.meta import (
    BASE_CONFIG,
    BASE_WEIGHTS,
    CARD,
    BaseMeta,
    StorageType,
    canonical_json,
    read_base_meta,
)
from mpa_core.hub.write import write_folder
from mpa_core.model import MPAModel


@dataclass(frozen=True)
class LoadedBase:
    """A base folder that passed every check."""

    config: BaseConfig
    tensors: dict[str, Tensor]
    """Those of ``model.state_dict()`` (sharing its memory), as used: float32 and integers."""
    name: str
    fingerprint: str
    folder: Path
    model: MPAModel
    """Built and filled, in eval mode, on the CPU."""


def save_base(
    folder: str | Path,
    config: BaseConfig,
    tensors: Mapping[str, Tensor],
    *,
    name: str,
    card: str | None = None,
    dtype: StorageType = "float32",
) -> str:
    """Write a base folder, whole or not at all; files of the same names are replaced.

    Args:
        folder: Made if missing; other files in it are left alone.
        config: Architecture.
        tensors: ``MPAModel.frozen_state()``: base and encoder path, CDF tables included.
        name: Id for messages and for paths that refer to this base.
        card: Text of ``README.md``; None writes a plain one.
        dtype: ``float16`` halves the file by rounding matrices and kernels.

    Returns:
        The fingerprint of the tensors as loaded back. With ``float16`` these are the rounded
        ones, so a codec in memory with the unrounded ones is another base.

    Raises:
        CheckpointError: ``tensors`` are not exactly those of ``config``, not finite, without CDF
            tables, or do not fit float16.
        ConfigError: ``name`` or ``dtype`` is not one the format takes.
        OutputError: The folder cannot be written; what was there is untouched.
    """
    tensor_io.check_layout(tensors, _build(config).state_dict(), f"base {name!r}")
    kept = tensor_io.stored(tensors, dtype)
    print_ = fingerprint(tensor_io.used(kept))
    meta = BaseMeta.parse(
        {"name": name, "fingerprint": print_, "dtype": dtype, "architecture": config},
        source=f"base {name!r}",
    )
    weights = tensor_io.to_file(
        kept, {"format": meta.format, "kind": meta.kind, "name": name, "fingerprint": print_}
    )
    write_folder(
        Path(folder),
        {
            BASE_WEIGHTS: weights,
            BASE_CONFIG: canonical_json(meta).encode(),
            CARD: (card if card is not None else base_card(meta)).encode(),
        },
    )
    return print_


def load_base(id_or_folder: str | Path) -> LoadedBase:
    """Load a bundled base or a folder.

    Raises:
        CheckpointError: Nothing there, a path folder, another version, files that are broken or
            do not belong together, pickles, NaN; the message says which and what to do.
    """
    folder = resolve(id_or_folder)
    meta = read_base_meta(folder)
    loaded = tensor_io.read_file(folder / BASE_WEIGHTS, meta.dtype)
    model = _build(meta.architecture)
    source = str(folder / BASE_WEIGHTS)
    tensor_io.load_into(model, loaded, source)
    found = fingerprint(loaded)
    tensor_io.check_fingerprint(found, meta.fingerprint, source, BASE_CONFIG)
    return LoadedBase(
        config=meta.architecture,
        tensors=model.frozen_state(),
        name=meta.name,
        fingerprint=found,
        folder=folder,
        model=model,
    )


def _build(config: BaseConfig) -> MPAModel:
    """A model to fill: its random start must not move the caller's random numbers."""
    with torch.random.fork_rng(devices=[]):
        return MPAModel(config).eval()
