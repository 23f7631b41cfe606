"""From what a user types to a folder on disk. No torch here."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from mpa_core.arguments import as_path, expect
from mpa_core.errors import CheckpointError
from mpa_core.hub.meta import BASE_CONFIG, PATH_CONFIG, read_base_meta

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


def resolve(id_or_folder: str | Path) -> Path:
    """The folder meant by a bundled id or a path.

    A folder that holds a checkpoint wins over a bundled base of the same name, so that what was
    saved under a name loads under it.

    Raises:
        CheckpointError: Neither; the message lists the bundled ids.
    """
    folder = as_path(id_or_folder, "base", CheckpointError)
    if (folder / BASE_CONFIG).is_file() or (folder / PATH_CONFIG).is_file():
        return folder
    bundled = bundled_bases()
    asked = str(id_or_folder)
    if asked in bundled:
        return bundled[asked]
    ids = ", ".join(bundled) or "none in this installation"
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
