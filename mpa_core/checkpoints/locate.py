"""From what a user types to a folder on disk. No torch here."""

from __future__ import annotations

import re
import warnings
from importlib import resources
from pathlib import Path

from mpa_core.arguments import as_path, expect
from mpa_core.checkpoints.meta import BASE_CONFIG, PATH_CONFIG, read_base_meta
from mpa_core.errors import AmbiguousNameWarning, CheckpointError, PathNotFoundError

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")


def bundled_bases() -> dict[str, Path]:
    """Bases that ship inside the package: id to folder, in the order of their ids."""
    weights = Path(str(resources.files("mpa_core") / "weights"))
    if not weights.is_dir():
        return {}
    return {f.name: f for f in sorted(weights.iterdir()) if (f / BASE_CONFIG).is_file()}


def bundled_fingerprints() -> dict[str, str]:
    """Fingerprints that files of the bundled bases begin with, of any profile, to the base's id."""
    found = {}
    for name, folder in bundled_bases().items():
        meta = read_base_meta(folder)
        found.update({print_: name for print_ in (meta.fingerprint, meta.exact) if print_})
    return found


def bundled_base_of(prefix: bytes) -> str | None:
    """Id of the bundled base whose files begin with the fingerprint ``prefix``; None if it is none.

    Raises :class:`CheckpointError` where the installation is damaged.
    """
    expect(prefix, bytes, "prefix", "the first bytes of a fingerprint", CheckpointError)
    known = bundled_fingerprints().items()
    return next((name for print_, name in known if print_.startswith(prefix.hex())), None)


def is_bare(source: str | Path) -> bool:
    """Whether ``source`` is a bare name, which never means a folder.

    A folder is said as a path: a ``Path`` object, or text with a separator of any system in it
    (``./mpa-small``, ``runs/one``, ``runs\\one``, ``mpa-small/``), from ``~``, or ``.`` or ``..``.
    So files that lie in the current folder by chance change the meaning of no name.
    """
    if isinstance(source, Path):
        return False
    return not ("/" in source or "\\" in source or source.startswith("~") or source in (".", ".."))


def _warn_of_folder(name: str, config_name: str) -> None:
    """Say that the bare ``name`` was not taken for the checkpoint folder here of the same name."""
    if (Path(name) / config_name).is_file():
        warnings.warn(
            AmbiguousNameWarning(
                f"{name!r} is the one that is installed, not the folder {name} here; "
                f"write ./{name} for the folder"
            ),
            stacklevel=3,
        )


def _folder_hint(name: str) -> str:
    """What to add to an error about the bare ``name`` where a folder of that name is here."""
    return f"; for the folder {name} here write ./{name}" if Path(name).is_dir() else ""


def resolve(id_or_folder: str | Path) -> Path:
    """The folder meant by a bundled id or a path.

    A bare name (see :func:`is_bare`) is a bundled base; where a checkpoint folder of that name is
    in the current folder, an :class:`AmbiguousNameWarning` says so. Anything else is a folder.

    Raises:
        CheckpointError: Neither; the message lists the bundled ids.
    """
    folder = as_path(id_or_folder, "base", CheckpointError)
    bundled = bundled_bases()
    asked = str(id_or_folder)
    bare = is_bare(id_or_folder)
    if bare and asked in bundled:
        _warn_of_folder(asked, BASE_CONFIG)
        return bundled[asked]
    if not bare and ((folder / BASE_CONFIG).is_file() or (folder / PATH_CONFIG).is_file()):
        return folder
    ids = ", ".join(bundled) or "none in this installation"
    if bare and folder.is_dir():
        raise CheckpointError(
            f"{asked!r} is no bundled base, expected one of: {ids}{_folder_hint(asked)}"
        )
    if folder.is_dir():
        raise CheckpointError(
            f"{folder} has neither {BASE_CONFIG} nor {PATH_CONFIG}, expected a checkpoint folder; "
            f"give the folder save_pretrained wrote, or a bundled base: {ids}"
        )
    if folder.exists():
        raise CheckpointError(
            f"{folder} is a file, expected a checkpoint folder or a bundled base ({ids}); "
            "give the folder that holds it, or convert an authors' checkpoint with: "
            f"mpa import-official {folder} OUT"
        )
    if isinstance(id_or_folder, str) and _HUB_ID.match(asked):
        raise CheckpointError(
            f"no folder {asked!r} here, and mpa-core does not download from the Hugging Face Hub; "
            f"run: hf download {asked} --local-dir FOLDER, then give FOLDER "
            f"(bundled bases: {ids})"
        )
    raise CheckpointError(
        f"{asked!r} is neither a folder nor a bundled base, expected one of: {ids}; "
        "check the spelling or give a checkpoint folder"
    )


def resolve_path(name_or_folder: str | Path, base: str) -> Path:
    """The folder meant by a path's registered name or by a folder.

    A bare name (see :func:`is_bare`; ``"cls"``, ``"dist:cls"``) is what is installed, and means the
    weights that its plugin bundles for ``base``; where a path folder of that name is in the current
    folder, an :class:`AmbiguousNameWarning` says so. Anything else is a folder, and is returned
    whatever is in it: who reads it says what is missing.

    Args:
        name_or_folder: what a user has typed.
        base: name of the base that the weights are for.

    Raises:
        PathNotFoundError: no such path is installed, or its plugin has no weights for ``base``.
    """
    folder = as_path(name_or_folder, "source", PathNotFoundError)
    if not is_bare(name_or_folder):
        return folder
    from mpa_core.plugins.registry import registry  # bases need no plugin

    asked = str(name_or_folder)
    try:
        registered = registry().get(asked)
    except PathNotFoundError as error:
        places = f"give one of these, or the folder of a path (with {PATH_CONFIG} in it)"
        raise PathNotFoundError(f"{error}; {places}{_folder_hint(asked)}") from error
    bundled = registered.spec.bundled_weights(base)
    if bundled is None:
        others = ", ".join(registered.spec.bundled_bases()) or "no base"
        raise PathNotFoundError(
            f"path {registered.name!r} of {registered.distribution} has no weights for base "
            f"{base!r} (it has them for {others}); give a folder of trained weights"
        )
    _warn_of_folder(asked, PATH_CONFIG)
    return bundled
