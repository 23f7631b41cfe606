"""Base folders: ``config.json``, ``model.safetensors``, ``exact.safetensors``, ``README.md``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mpa_core.arguments import as_path, as_text, expect
from mpa_core.base.api import needs
from mpa_core.base.capabilities import Formats
from mpa_core.checkpoints import tensors as tensor_io
from mpa_core.checkpoints.cards import base_card
from mpa_core.checkpoints.exact import exact_fingerprint, formats_file, read_formats
from mpa_core.checkpoints.fingerprint import fingerprint
from mpa_core.checkpoints.hub import HubOptions
from mpa_core.checkpoints.meta import (
    BASE_CONFIG,
    BASE_WEIGHTS,
    CARD,
    EXACT_FORMATS,
    BaseMeta,
    BaseRef,
    StorageType,
    canonical_json,
    read_base_meta,
)
from mpa_core.checkpoints.origin import Origin, origin_of
from mpa_core.checkpoints.sources import BASE, resolve
from mpa_core.checkpoints.write import write_folder
from mpa_core.coding.model import MPAModel
from mpa_core.config import BaseConfig
from mpa_core.errors import CheckpointError, ConfigError, OutputError
from mpa_core.runtime.normal_tensors import normal_tensors
from mpa_core.runtime.surroundings import making_weights, usual_defaults


@dataclass(frozen=True)
class LoadedBase:
    """A base folder that passed every check."""

    config: BaseConfig
    tensors: dict[str, Tensor]
    """The tensors of ``model.state_dict()``, whose memory they share: float32 and integers."""
    name: str
    fingerprint: str
    folder: Path
    model: MPAModel
    """The model with its weights, in eval mode, on the CPU."""
    formats: dict[str, Any] | None
    """Formats of the exact entropy profile, by layer; None where the base has no such profile."""
    exact_fingerprint: str | None
    """Fingerprint of ``tensors`` and ``formats``; None where the folder stores none."""

    @property
    def origin(self) -> Origin | None:
        """The repository and commit that the folder is a copy of, if it is one."""
        return origin_of(self.folder)

    @property
    def reference(self) -> BaseRef:
        """The record by which a path names this base."""
        return BaseRef.of(self.name, self.fingerprint, self.origin)


@usual_defaults()
def save_base(
    folder: str | Path,
    config: BaseConfig,
    tensors: Mapping[str, Tensor],
    *,
    name: str,
    formats: Formats | None = None,
    licence: str | None = None,
    card: str | None = None,
    dtype: StorageType = "float32",
) -> str:
    """Write a base folder, as a whole or not at all; files of the same names are replaced.

    Args:
        folder: made if missing; other files in it are left alone.
        config: the architecture.
        tensors: ``MPAModel.frozen_state()``: base and encoder path, CDF tables included.
        name: id for messages and for paths that refer to this base.
        formats: formats of the exact profile; None takes those that fit any input, if the base has
            an exact profile.
        licence: licence of the weights, for a plain card; with None it says that none is stated.
        card: text of ``README.md``; None writes a plain one.
        dtype: ``float16`` halves the file by rounding matrices and kernels.

    Returns:
        The fingerprint of the tensors as loaded back. With ``float16`` these are the rounded ones,
        so a codec in memory with the unrounded ones is another base.

    Raises:
        CheckpointError: ``tensors`` are not exactly those of ``config``, not finite, without CDF
            tables, or do not fit float16.
        ConfigError: ``name`` or ``dtype`` has a value that the format does not allow, or
            ``formats`` are given for a base without an exact profile.
        OutputError: the folder cannot be written; its files are unchanged.
    """
    target = as_path(folder, "folder", OutputError)
    expect(config, BaseConfig, "config", "a BaseConfig", ConfigError)
    name = as_text(name, "name")
    text = None if card is None else as_text(card, "card")
    licence = None if licence is None else as_text(licence, "licence")
    model = _build(config)
    tensor_io.check_layout(tensors, model.state_dict(), f"base {name!r}")
    kept = tensor_io.stored(tensors, dtype)
    used = tensor_io.used(kept)
    digest = fingerprint(used)
    model.load_state_dict(used)
    stored_formats = _formats_that_fit(model, formats)
    exact = None if stored_formats is None else exact_fingerprint(used, stored_formats)
    meta = BaseMeta.parse(
        {
            "name": name,
            "fingerprint": digest,
            "exact": exact,
            "dtype": dtype,
            "architecture": config,
        },
        source=f"base {name!r}",
    )
    weights = tensor_io.to_file(
        kept, {"format": meta.format, "kind": meta.kind, "name": name, "fingerprint": digest}
    )
    files = {
        BASE_WEIGHTS: weights,
        BASE_CONFIG: canonical_json(meta).encode(),
        CARD: (text if text is not None else base_card(meta, licence=licence)).encode(),
    }
    if stored_formats is not None and exact is not None:
        files[EXACT_FORMATS] = formats_file(stored_formats, exact)
    write_folder(target, files)
    return digest


@usual_defaults()
@normal_tensors()
def load_base(id_or_folder: str | Path, options: HubOptions | None = None) -> LoadedBase:
    """Load a base, by its bundled id, from a folder or from a repository of the Hub.

    Raises:
        CheckpointError: there is nothing there, a path folder, another version, files that are
            broken or do not belong together, pickles or NaN; the message says which and what to do.
        HubError, MissingDependencyError, OutputError: the repository cannot be fetched.
    """
    folder = resolve(id_or_folder, BASE, options)
    meta = read_base_meta(folder)
    loaded = tensor_io.read_file(folder / BASE_WEIGHTS, meta.dtype)
    model = _build(meta.architecture)
    source = str(folder / BASE_WEIGHTS)
    tensor_io.load_into(model, loaded, source)
    found = fingerprint(loaded)
    tensor_io.check_fingerprint(found, meta.fingerprint, source, BASE_CONFIG)
    _ = model.base.entropy.tables  # checked here, not when the first file is coded
    profile, formats = model.base.capabilities.exact, None
    if meta.exact is not None:
        if profile is None:
            raise CheckpointError(
                f"{folder / BASE_CONFIG} states an exact profile, which a base of type "
                f"{model.config.type!r} has not; restore the file from its source"
            )
        formats = read_formats(folder, profile, loaded, meta.exact)  # checks the fingerprint, too
    elif profile is not None:
        formats = profile.choose_formats()
    return LoadedBase(
        config=meta.architecture,
        tensors=model.frozen_state(),
        name=meta.name,
        fingerprint=found,
        folder=folder,
        model=model,
        formats=formats,
        exact_fingerprint=meta.exact,
    )


def _formats_that_fit(model: MPAModel, formats: Formats | None) -> dict[str, Tensor] | None:
    """Return ``formats``, or new ones, as tensors; None for a base without an exact profile.

    Networks are built with them once, which proves all sums exact.
    """
    profile = model.base.capabilities.exact
    if profile is None and formats is None:
        return None
    profile = needs(profile, model.config, "exact entropy profile", "save without formats")
    if formats is None:
        formats = profile.choose_formats()
    profile.check(formats, "formats of the exact profile")
    profile.networks(model.base, formats)
    return profile.to_tensors(formats)


def _build(config: BaseConfig) -> MPAModel:
    """Build a model with random weights, to be filled from a file."""
    with making_weights():
        return MPAModel(config).eval()
