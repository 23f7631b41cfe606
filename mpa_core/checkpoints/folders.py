"""Base folders: ``config.json``, ``model.safetensors``, ``exact.safetensors``, ``README.md``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mpa_core.arguments import as_path, as_text, expect
from mpa_core.base.tinylic.exact.fixed import Format
from mpa_core.base.tinylic.exact.formats import check_layers, choose_formats
from mpa_core.base.tinylic.exact.networks import ExactNetworks
from mpa_core.checkpoints import tensors as tensor_io
from mpa_core.checkpoints.cards import base_card
from mpa_core.checkpoints.exact import exact_fingerprint, formats_file, read_formats
from mpa_core.checkpoints.fingerprint import fingerprint
from mpa_core.checkpoints.meta import (
    BASE_CONFIG,
    BASE_WEIGHTS,
    CARD,
    EXACT_FORMATS,
    BaseMeta,
    StorageType,
    canonical_json,
    read_base_meta,
)
from mpa_core.checkpoints.sources import BASE, resolve
from mpa_core.checkpoints.write import write_folder
from mpa_core.coding.model import MPAModel
from mpa_core.config import BaseConfig
from mpa_core.errors import ConfigError, OutputError
from mpa_core.runtime.normal_tensors import normal_tensors
from mpa_core.runtime.surroundings import making_weights, usual_defaults


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
    formats: dict[str, Format]
    """Of the exact entropy profile, by layer."""


@usual_defaults()
def save_base(
    folder: str | Path,
    config: BaseConfig,
    tensors: Mapping[str, Tensor],
    *,
    name: str,
    formats: Mapping[str, Format] | None = None,
    card: str | None = None,
    dtype: StorageType = "float32",
) -> str:
    """Write a base folder, whole or not at all; files of the same names are replaced.

    Args:
        folder: Made if missing; other files in it are left alone.
        config: Architecture.
        tensors: ``MPAModel.frozen_state()``: base and encoder path, CDF tables included.
        name: Id for messages and for paths that refer to this base.
        formats: Of the exact profile; None takes those that fit any input.
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
    target = as_path(folder, "folder", OutputError)
    expect(config, BaseConfig, "config", "a BaseConfig", ConfigError)
    name = as_text(name, "name")
    text = None if card is None else as_text(card, "card")
    model = _build(config)
    tensor_io.check_layout(tensors, model.state_dict(), f"base {name!r}")
    kept = tensor_io.stored(tensors, dtype)
    used = tensor_io.used(kept)
    print_ = fingerprint(used)
    model.load_state_dict(used)
    formats = _formats_that_fit(model, formats)
    exact = exact_fingerprint(used, formats)
    meta = BaseMeta.parse(
        {
            "name": name,
            "fingerprint": print_,
            "exact": exact,
            "dtype": dtype,
            "architecture": config,
        },
        source=f"base {name!r}",
    )
    weights = tensor_io.to_file(
        kept, {"format": meta.format, "kind": meta.kind, "name": name, "fingerprint": print_}
    )
    write_folder(
        target,
        {
            BASE_WEIGHTS: weights,
            EXACT_FORMATS: formats_file(formats, exact),
            BASE_CONFIG: canonical_json(meta).encode(),
            CARD: (text if text is not None else base_card(meta)).encode(),
        },
    )
    return print_


@usual_defaults()
@normal_tensors()
def load_base(id_or_folder: str | Path) -> LoadedBase:
    """Load a bundled base or a folder.

    Raises:
        CheckpointError: Nothing there, a path folder, another version, files that are broken or
            do not belong together, pickles, NaN; the message says which and what to do.
    """
    folder = resolve(id_or_folder, BASE)
    meta = read_base_meta(folder)
    loaded = tensor_io.read_file(folder / BASE_WEIGHTS, meta.dtype)
    model = _build(meta.architecture)
    source = str(folder / BASE_WEIGHTS)
    tensor_io.load_into(model, loaded, source)
    found = fingerprint(loaded)
    tensor_io.check_fingerprint(found, meta.fingerprint, source, BASE_CONFIG)
    _ = model.base.entropy.tables  # checked here, not when the first file is coded
    formats = (
        choose_formats(model.base)
        if meta.exact is None
        else read_formats(folder, model.base, loaded, meta.exact)
    )
    return LoadedBase(
        config=meta.architecture,
        tensors=model.frozen_state(),
        name=meta.name,
        fingerprint=found,
        folder=folder,
        model=model,
        formats=formats,
    )


def _formats_that_fit(
    model: MPAModel, formats: Mapping[str, Format] | None
) -> Mapping[str, Format]:
    """``formats``, or new ones; networks are built with them once, which proves all sums exact."""
    if formats is None:
        formats = choose_formats(model.base)
    check_layers(model.base, formats, "formats of the exact profile")
    ExactNetworks(model.base, formats)
    return formats


def _build(config: BaseConfig) -> MPAModel:
    """A model to fill."""
    with making_weights():
        return MPAModel(config).eval()
