"""The part of :class:`mpa_core.codec.MPACodec` that loads and holds task paths."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mpa_core import checkpoints
from mpa_core.arguments import as_sequence, as_text, expect, shown
from mpa_core.coding.model import MPAModel
from mpa_core.coding.profiles import EntropyProfiles
from mpa_core.errors import ConfigError, PathNotFoundError
from mpa_core.paths.path import TaskPath
from mpa_core.plugins.hookspecs import RESERVED_NAMES
from mpa_core.runtime.normal_tensors import normal_tensors

if TYPE_CHECKING:
    from mpa_core.checkpoints.meta import BaseRef, StorageType
    from mpa_core.checkpoints.origin import Origin


class LoadedPaths:
    """The methods of a codec that load task paths onto its model and remove them."""

    model: MPAModel
    name: str
    profiles: EntropyProfiles
    origin: Origin | None = None
    """The repository and commit that the base was loaded from, or pushed to; else None."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Local names of the loaded task paths; the main path is always there and is not listed."""
        return tuple(self.model.paths)

    @normal_tensors()
    def load_path(
        self,
        source: str | Path,
        name: str | None = None,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> str:
        """Load a path's weights, by a registered name, from a folder or from the Hub.

        Args:
            source: a registered name (``"cls"``, ``"dist:cls"``), whose plugin bundles weights for
                this base; a path folder, given with a separator in it (``"./cls"``) or as a
                ``Path``; or a repository, ``"org/repo"`` or ``"org/repo@revision"``.
            name: local name of the path; None takes the path's own.
            revision, token, cache_dir, local_files_only: how a repository is fetched, as
                huggingface_hub has them.

        Returns:
            The local name.

        Raises:
            PathNotFoundError: there is no such path, or its plugin is not installed, or has no
                weights for this base.
            BaseMismatchError: the path was trained on another base.
            ModelChangedError: the codec's weights are no longer those of its base.
            ConfigError: the local name is taken or is no identifier.
            CheckpointError, PluginError: the weights or the code do not load, or the folder holds
                no path.
            HubError, MissingDependencyError, OutputError: the repository cannot be fetched.
        """
        options = checkpoints.HubOptions(revision, token, cache_dir, local_files_only)
        called = (self.name, self.origin.repo_id) if self.origin else (self.name,)
        folder = checkpoints.resolve(source, checkpoints.path_on(*called), options)
        return self._load_folder(folder, name)

    def _load_folder(self, folder: Path, name: str | None) -> str:
        loaded = checkpoints.load_path(folder)
        self.profiles.require_unchanged(self.model, coding=False)
        loaded.require_base(self.name, self.profiles.fingerprint)
        return self.attach_path(checkpoints.build_path(loaded), name)

    def load_paths(self, sources: Sequence[str]) -> list[str]:
        """Load several paths, each given as ``SOURCE`` or ``NAME=SOURCE``, as on the command line.

        Each source is one that :meth:`load_path` takes, and raises the same errors.

        Returns:
            The local names, in order.
        """
        names = []
        for source in as_sequence(sources, "sources", "SOURCE or NAME=SOURCE", ConfigError):
            name, place = checkpoints.split_named(as_text(source, "a source"))
            names.append(self.load_path(place, name))
        return names

    @normal_tensors()
    def attach_path(self, path: TaskPath, name: str | None = None) -> str:
        """Attach a path that is in memory.

        Args:
            path: it is set to eval mode and moved to the base's device and dtype.
            name: local name of the path; None takes the path's own.

        Returns:
            The local name.

        Raises:
            BaseMismatchError: it was read from a folder that names another base.
            ModelChangedError: the codec's weights are no longer those of its base.
            ConfigError: the name is taken or no identifier, or the path was built for other stages
                than this base has.
        """
        expect(path, TaskPath, "path", "a TaskPath", ConfigError)
        local = path.name if name is None else as_text(name, "name") or path.name
        reserved = local in RESERVED_NAMES or hasattr(self.model.paths, local)
        if not local.isidentifier() or (reserved and local not in self.model.paths):
            raise ConfigError(
                f"{local!r} cannot name a path: use an identifier such as 'det' "
                f"(taken by the SDK: {', '.join(sorted(RESERVED_NAMES))})"
            )
        if local in self.model.paths:
            raise ConfigError(
                f"a path {local!r} is loaded already; unload_path({local!r}) first, "
                "or load this one under another name"
            )
        found, offered = path.layout, self.model.config.decoder_path_stages
        if found != offered:
            built, needed = (", ".join(map(str, stages)) for stages in (found, offered))
            raise ConfigError(
                f"path {local!r} was built for stages {built}, this base offers {needed} "
                "(stage: width x depth); build it from model.config.decoder_path_stages"
            )
        self.profiles.require_unchanged(self.model, coding=False)
        trained_on = checkpoints.base_of(path)
        if trained_on is not None:
            what = f"path {path.name!r}"
            checkpoints.require_base(trained_on, what, self.name, self.profiles.fingerprint)
        self.model.paths[local] = path.eval().to(self.model.base.like)
        return local

    def unload_path(self, name: str) -> None:
        """Remove a loaded path; the base does not change.

        Raises:
            PathNotFoundError: no path of this name is loaded.
        """
        self._loaded(name)
        del self.model.paths[name]

    def save_path(
        self,
        name: str,
        folder: str | Path,
        *,
        dtype: StorageType = "float32",
        license: str | None = None,  # noqa: A002 -- the Hub's word
        card: str | None = None,
    ) -> str:
        """Write a loaded path as a folder (``docs/spec/checkpoint.md``) that names its base.

        Args:
            name: local name of the path, one of :attr:`paths`.
            folder: made if missing; files of the same names are replaced, others are left alone.
            dtype: ``"float32"``, or ``"float16"``, which halves the file by rounding matrices.
            license: licence of the weights, an identifier of the Hub such as ``"apache-2.0"``;
                with None the card says that none is stated.
            card: text of ``README.md``; None writes a plain one.

        Returns:
            The fingerprint of the path's tensors as loaded back, 64 hex digits.

        Raises:
            PathNotFoundError: the path is not loaded.
            PluginError: no installed plugin offers its class, so nobody could load the folder.
            ModelChangedError: the codec's weights are no longer those of its base.
            CheckpointError: weights that are not finite, or too large for ``dtype``.
            OutputError: the folder cannot be written; its files are unchanged.
        """
        path = self._loaded(name)
        plugin = checkpoints.plugin_of(path)
        self.profiles.require_unchanged(self.model, coding=False)
        base = self.reference
        return checkpoints.save_path(
            folder,
            path,
            base_name=base.repo_id,
            base_fingerprint=base.fingerprint,
            base_revision=base.revision,
            plugin=plugin,
            card=card if card is not None else partial(checkpoints.path_card, licence=license),
            dtype=dtype,
        )

    @property
    def reference(self) -> BaseRef:
        """The record by which a path names this base: name or repository, and fingerprint."""
        fingerprint = self.profiles.fingerprint
        return checkpoints.BaseRef.of(self.name, fingerprint, self.origin)

    def _loaded(self, name: str) -> TaskPath:
        if not isinstance(name, str) or name not in self.model.paths:
            loaded = ", ".join(self.paths) or "none"
            raise PathNotFoundError(f"no path {shown(name)} is loaded (loaded: {loaded})")
        return cast(TaskPath, self.model.paths[name])
