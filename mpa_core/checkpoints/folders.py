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
    """Those of ``model.state_dict()`` (sharing its memory), as used: float32 and integers."""
    name: str
    fingerprint: str
    folder: Path
    model: MPAModel
    """Built and filled, in eval mode, on the CPU."""
    formats: dict[str, Any] | None
    """Of the exact entropy profile, by layer; None where the base has no such profile."""
    exact_fingerprint: str | None
    """Of ``tensors`` and ``formats``; None where it was not computed, for want of a stored one."""

    @property
    def origin(self) -> Origin | None:
        """The repository and commit that the folder is a copy of, if it is one."""
        return origin_of(self.folder)

    @property
    def reference(self) -> BaseRef:
        """How a path names this base."""
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
    """Write a base folder, whole or not at all; files of the same names are replaced.

    Args:
        folder: Made if missing; other files in it are left alone.
        config: Architecture.
        tensors: ``MPAModel.frozen_state()``: base and encoder path, CDF tables included.
        name: Id for messages and for paths that refer to this base.
        formats: Of the exact profile; None takes those that fit any input, if there is the profile.
        licence: Of the weights, for a plain card; None: it says that none is stated.
        card: Text of ``README.md``; None writes a plain one.
        dtype: ``float16`` halves the file by rounding matrices and kernels.

    Returns:
        The fingerprint of the tensors as loaded back. With ``float16`` these are the rounded
        ones, so a codec in memory with the unrounded ones is another base.

    Raises:
        CheckpointError: ``tensors`` are not exactly those of ``config``, not finite, without CDF
            tables, or do not fit float16.
        ConfigError: ``name`` or ``dtype`` is not one the format takes, or ``formats`` are for an
            exact profile, which the base does not have.
        OutputError: The folder cannot be written; what was there is untouched.
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
    print_ = fingerprint(used)
    model.load_state_dict(used)
    stored_formats = _formats_that_fit(model, formats)
    exact = None if stored_formats is None else exact_fingerprint(used, stored_formats)
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
    files = {
        BASE_WEIGHTS: weights,
        BASE_CONFIG: canonical_json(meta).encode(),
        CARD: (text if text is not None else base_card(meta, licence=licence)).encode(),
    }
    if stored_formats is not None and exact is not None:
        files[EXACT_FORMATS] = formats_file(stored_formats, exact)
    write_folder(target, files)
    return print_


@usual_defaults()
@normal_tensors()
def load_base(id_or_folder: str | Path, options: HubOptions | None = None) -> LoadedBase:
    """Load a bundled base, a folder or a repository of the Hub, as :func:`resolve` finds them.

    Raises:
        CheckpointError: Nothing there, a path folder, another version, files that are broken or
            do not belong together, pickles, NaN; the message says which and what to do.
        HubError, MissingDependencyError, OutputError: The repository cannot be fetched.
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
        formats = read_formats(folder, profile, loaded, meta.exact)  # whose identity is checked
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
    """``formats``, or new ones, as tensors; None for a base without an exact profile.

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
    """A model to fill."""
    with making_weights():
        return MPAModel(config).eval()
