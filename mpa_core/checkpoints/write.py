"""Writing of a checkpoint folder as a whole or not at all; the module imports no torch."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from mpa_core.errors import OutputError
from mpa_core.io.files import write_bytes


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write ``files`` (name to content) into ``folder``, which is made if it is missing.

    Into a new folder a name may be one in a folder of its own (``a/b``). Everything is first
    written beside the folder; only then are the files moved into place, and if one cannot be moved,
    the others are put back. Other files in the folder are left alone.

    Raises:
        OutputError: something cannot be written; the folder is as it was before.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"cannot write {folder}: it is a file; give the name of a folder")
    staging = folder.parent / f".mpa-{secrets.token_hex(8)}.tmp"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir()
        for name, data in files.items():
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(staging / name, data)
        if folder.exists():
            _exchange(staging, folder, list(files))
        else:
            staging.replace(folder)
    except OSError as error:  # an OutputError is an OSError, and is raised unchanged
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"cannot write {folder}: {error.strerror or error}; "
            "check the folder, its permissions and the space left"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _exchange(staging: Path, folder: Path, names: list[str]) -> None:
    """Move ``names`` from ``staging`` over those in ``folder``; undo everything if one fails."""
    kept = staging / "kept"
    kept.mkdir()
    placed: list[str] = []
    try:
        for name in names:
            if (folder / name).exists():
                (folder / name).replace(kept / name)
            placed.append(name)
            (staging / name).replace(folder / name)
    except BaseException:
        for name in placed:
            (folder / name).unlink(missing_ok=True)
        for old in kept.iterdir():
            old.replace(folder / old.name)
        raise
