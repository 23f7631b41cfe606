"""Resolution of a checkpoint's name to a folder on disk, for bases and paths.

A checkpoint is given in one of three ways: a bare name (``"mpa-small"``, ``"cls"``,
``"dist:cls"``), a folder (``"./mpa-small"``, a ``Path``), or a repository of the Hugging Face Hub
with or without a revision (``"org/repo"``, ``"org/repo@v1"``). :func:`source_of` tells them apart,
:func:`resolve` finds the folder, of a repository by :mod:`mpa_core.checkpoints.hub`. A further
source of checkpoints is a further kind of :class:`Source`. The module does not import torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mpa_core.arguments import as_path
from mpa_core.checkpoints.bundled import IN_A_NEWER_SDK, bundled_bases, bundled_fingerprints
from mpa_core.checkpoints.hub import BASE_FILES, PATH_FILES, HubOptions, fetch, split_repository
from mpa_core.checkpoints.meta import BASE_CONFIG, PATH_CONFIG, BaseRef
from mpa_core.errors import (
    AmbiguousNameWarning,
    CheckpointError,
    ConfigError,
    MPAError,
    PathNotFoundError,
)


@dataclass(frozen=True)
class Source:
    """A checkpoint as the user named it."""

    kind: Literal["name", "folder", "repository"]
    text: str
    """The name, the folder, or ``org/repo``."""
    revision: str | None = None
    """Branch, tag or commit of a repository; None where none was given."""


@dataclass(frozen=True)
class Kind:
    """A kind of checkpoint that can be resolved: a base or a path."""

    noun: str
    """``"base"`` or ``"path"``, for messages."""
    config: str
    """Name of the file by which a folder of this kind is recognised."""
    of_a_file: str
    """Advice for a file given in place of such a folder."""
    error: type[MPAError]
    """Class of the error that is raised where nothing is found."""
    files: tuple[str, ...]
    """Names of the files that are fetched from a repository of this kind."""
    find: Callable[[str], Path]
    """Returns the folder of an installed checkpoint, given its bare name; raises ``error``, which
    lists the installed ones."""


def is_bare(source: str | Path) -> bool:
    r"""Return whether ``source`` is a bare name, which never means a folder.

    A folder is given as a path: a ``Path`` object, or text that has a separator of any system in it
    (``./mpa-small``, ``runs/one``, ``runs\one``, ``mpa-small/``), that begins with ``~``, or that
    is ``.`` or ``..``. So files that happen to lie in the current folder change the meaning of no
    name.
    """
    if isinstance(source, Path):
        return False
    return not ("/" in source or "\\" in source or source.startswith("~") or source in (".", ".."))


def source_of(said: str | Path) -> Source:
    """Tell a bare name, a folder and a repository apart.

    Text in the form of a repository that is also an existing folder means the folder.
    """
    text = str(said)
    if is_bare(said):
        return Source("name", text)
    repository = split_repository(text) if isinstance(said, str) else None
    if repository is None or Path(text).exists():
        return Source("folder", text)
    return Source("repository", *repository)


def resolve(said: str | Path, kind: Kind, options: HubOptions | None = None) -> Path:
    """Return the folder of the checkpoint that ``said`` names.

    A bare name means an installed checkpoint; if the current folder has a folder of that name with
    such a checkpoint, an :class:`AmbiguousNameWarning` says so. A folder is returned whatever is in
    it: the code that reads it reports missing files.

    Args:
        said: a name, a folder or a repository, as a user has typed it.
        kind: :data:`BASE`, or :func:`path_on` the base it is for.
        options: how a repository is fetched; its revision may be in ``said`` instead.

    Raises:
        MPAError: of class ``kind.error``: nothing of that name is installed, or ``said`` is no
            name.
        CheckpointError: ``said`` is a file.
        ConfigError: two revisions are given, or one for what is no repository.
        HubError: the repository cannot be found, reached or read, and has no copy in the cache.
        MissingDependencyError: ``said`` is a repository and huggingface_hub is not installed.
        OutputError: the cache cannot be written.
    """
    options = options or HubOptions()
    folder = as_path(said, kind.noun, kind.error)
    source = source_of(said)
    if source.kind == "repository":
        if source.revision and options.revision not in (None, source.revision):
            raise ConfigError(
                f"{source.text} is asked for at revision {source.revision!r} and at "
                f"{options.revision!r}; give one of them"
            )
        return fetch(source.text, kind.files, options.at(source.revision or options.revision))
    if options.revision is not None:
        raise ConfigError(
            f"revision {options.revision!r} is asked for of {str(said)!r}, which is no repository "
            "of the Hub; leave it out, or give org/repo"
        )
    if source.kind == "folder":
        if folder.is_file():
            raise CheckpointError(
                f"{folder} is a file, expected the folder of a {kind.noun}; "
                + kind.of_a_file.format(file=folder)
            )
        return folder
    here = Path(source.text)
    try:
        found = kind.find(source.text)
    except kind.error as error:
        hint = ""
        if here.is_dir():
            hint = f"; for the folder {here} here write ./{here}"
        elif here.is_file():
            hint = f"; the file {here} here is none: " + kind.of_a_file.format(file=here)
        raise kind.error(f"{error}{hint}") from error
    if (here / kind.config).is_file():
        warnings.warn(
            AmbiguousNameWarning(
                f"{source.text!r} is the one that is installed, not the folder {here} here; "
                f"write ./{here} for the folder"
            ),
            stacklevel=2,
        )
    return found


def _bundled_base(name: str) -> Path:
    bundled = bundled_bases()
    if name in bundled:
        return bundled[name]
    ids = ", ".join(bundled) or "none in this installation"
    raise CheckpointError(
        f"{name!r} is no bundled base, expected one of: {ids}; check the spelling, or give the "
        "folder of a base, with a separator in it, or its repository org/repo on the Hub, "
        f"{IN_A_NEWER_SDK}"
    )


BASE = Kind(
    "base",
    BASE_CONFIG,
    "give the folder that holds it, or convert an authors' checkpoint with: "
    "mpa import-official {file} OUT",
    CheckpointError,
    BASE_FILES,
    _bundled_base,
)
"""The kind of a base codec."""


def path_on(*bases: str) -> Kind:
    """Return the kind of a task path for a base.

    Its bare names are registered names and ``dist:name``; the plugin bundles the weights.

    Args:
        bases: what the base is called: its name, and its repository where it has one. Without
            any, a bare name is refused.
    """

    def find(name: str) -> Path:
        if not bases:
            raise PathNotFoundError(
                f"path {name!r} is asked for without a base; load the base first, then "
                f"codec.load_path({name!r}), or give the path's folder or repository"
            )
        from mpa_core.plugins.registry import registry  # bases need no plugin

        try:
            registered = registry().get(name)
        except PathNotFoundError as error:
            raise PathNotFoundError(
                f"{error}, or give the folder of a path (with {PATH_CONFIG} in it)"
            ) from error
        found = (registered.spec.bundled_weights(base) for base in bases)
        bundled = next((folder for folder in found if folder is not None), None)
        if bundled is None:
            others = ", ".join(registered.spec.bundled_bases()) or "no base"
            raise PathNotFoundError(
                f"path {registered.name!r} of {registered.distribution} has no weights for base "
                f"{bases[0]!r} (it has them for {others}); give a folder of trained weights, or "
                "its repository on the Hub"
            )
        return bundled

    return Kind(
        "path", PATH_CONFIG, "give the folder that holds it", PathNotFoundError, PATH_FILES, find
    )


def base_folder(base: BaseRef, options: HubOptions | None = None) -> Path:
    """Return the folder of the base that a path names, bundled or from the Hub.

    What a path says of its base is a stranger's word: it is never taken for a folder here.

    Args:
        base: as the path's config names it.
        options: how its repository is fetched; the revision is the one that ``base`` names.

    Raises:
        CheckpointError: it is neither bundled nor a repository.
        HubError, MissingDependencyError, OutputError: as :func:`resolve`.
    """
    bundled = bundled_fingerprints().get(base.fingerprint)
    if bundled is not None:
        return bundled_bases()[bundled]
    repository = split_repository(base.repo_id)
    if repository is None:
        raise CheckpointError(
            f"the path's base {base.repo_id!r} ({base.fingerprint[:16]}…) is neither bundled nor a "
            "repository of the Hub; load it from its folder with MPACodec.from_pretrained, and "
            f"then the path with codec.load_path, {IN_A_NEWER_SDK}"
        )
    revision = base.revision or repository[1]
    return fetch(repository[0], BASE_FILES, (options or HubOptions()).at(revision))
