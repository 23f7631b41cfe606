"""Writing files so that a crash, a full disk or Ctrl-C never costs an existing file.

Everything the SDK writes goes through :func:`write_bytes` or :func:`atomic_writer`: the bytes go
to a temporary file in the target's own folder, are flushed to the disk, and only then take the
target's name. A reader sees the old file or the new one, never a part of either.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mpa_core.errors import MPAError, OutputError


def check_writable(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Refuse early what :func:`write_bytes` would refuse late, before any work is spent on it.

    Raises:
        OutputError: ``path`` is a folder, its folder is missing, or it exists and ``overwrite``
            is false. Devices and pipes count as free: nothing in them can be lost.
    """
    target = Path(path)
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        if not target.parent.is_dir():
            raise OutputError(
                f"cannot write {target}: the folder {target.parent} does not exist; create it first"
            ) from None
        return
    except OSError as error:
        raise _output_error(target, error) from error
    if stat.S_ISDIR(mode):
        raise OutputError(f"cannot write {target}: it is a folder; give the name of a file")
    if stat.S_ISREG(mode) and not overwrite:
        raise OutputError(
            f"{target} already exists and was left as it is; "
            "choose another name, or overwrite it with --force (overwrite=True in Python)"
        )


@contextmanager
def atomic_writer(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """Open ``path`` for binary writing; it appears, whole, when the block ends without an error.

    On an error or an interrupt inside the block nothing is left behind and a file that was there
    before is untouched. A symbolic link is followed, an existing file's permission bits are kept.
    Devices and pipes (``/dev/null``, ``/dev/stdout``) cannot be replaced and are written directly.

    Raises:
        OutputError: the file cannot be written, or exists and ``overwrite`` is false.
    """
    check_writable(path, overwrite=overwrite)
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as handle:
                yield handle
            return
        temporary = target.parent / f".mpa-{secrets.token_hex(8)}.tmp"
        try:
            with temporary.open("xb") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            if target.exists():
                temporary.chmod(stat.S_IMODE(target.stat().st_mode))
            # A second look: the work between may have taken minutes, and another process may
            # have written this very name.
            check_writable(path, overwrite=overwrite)
            temporary.replace(target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(target.parent)
    except MPAError:
        raise
    except OSError as error:
        raise _output_error(Path(path), error) from error


def write_bytes(path: str | os.PathLike[str], data: bytes, *, overwrite: bool = True) -> None:
    """Write ``data`` to ``path`` as a whole or not at all; see :func:`atomic_writer`."""
    with atomic_writer(path, overwrite=overwrite) as handle:
        handle.write(data)


def write_text(path: str | os.PathLike[str], text: str, *, overwrite: bool = True) -> None:
    """Write ``text`` as UTF-8 with ``\\n`` line ends; see :func:`atomic_writer`."""
    write_bytes(path, text.encode("utf-8"), overwrite=overwrite)


def _output_error(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    return OutputError(
        f"cannot write {path}: {reason}; check the folder, its permissions and the space left"
    )


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable; not every system lets a folder be opened for that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
