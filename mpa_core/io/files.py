"""Writing files so that a crash, a full disk or Ctrl-C never costs an existing file.

Everything the SDK writes goes through :func:`write_bytes` or :func:`atomic_writer`: the bytes go to
a temporary file in the target's own folder, are flushed to the disk, and only then is the file
renamed to the target's name. A reader sees the old file or the new one, never a part of either.

A process that is killed outright leaves its temporary file, ``.mpa-<16 hex digits>.tmp``. A writer
holds a lock on its file (``flock``), which ends with the process; by this :func:`remove_leftovers`
tells leftovers from files that are being written.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl

from mpa_core.errors import MPAError, OutputError

_TEMPORARY = re.compile(r"\.mpa-[0-9a-f]{16}\.tmp")


def check_writable(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Refuse at once a path that :func:`write_bytes` would refuse, before work is spent on it.

    Raises:
        OutputError: ``path`` is a folder, its folder is missing, or it exists and ``overwrite`` is
            false. Devices and pipes count as free: nothing in them can be lost.
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
        raise already_exists(target, "overwrite it with --force (overwrite=True in Python)")


def already_exists(target: str | os.PathLike[str], otherwise: str) -> OutputError:
    """Return the error that refuses to overwrite ``target``.

    ``otherwise`` tells how to overwrite it nevertheless.
    """
    return OutputError(
        f"{target} already exists and was left as it is; choose another name, or {otherwise}"
    )


@contextmanager
def atomic_writer(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """Open ``path`` for binary writing; it appears, whole, when the block ends without an error.

    On an error or an interrupt inside the block nothing is left behind, and an existing file is
    unchanged. A symbolic link is followed, an existing file's permission bits are kept. Devices and
    pipes (``/dev/null``, ``/dev/stdout``) cannot be replaced and are written directly.

    Raises:
        OutputError: the file cannot be written, or exists and ``overwrite`` is false. ``errno`` has
            the system's number of the reason, if it is the system's.
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
            with _open_locked(temporary) as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
                if target.exists():
                    temporary.chmod(stat.S_IMODE(target.stat().st_mode))
                if sys.platform == "win32":
                    handle.close()  # an open file cannot be renamed there
                # Elsewhere renamed before it is closed: a file without a lock counts as a leftover.
                _take_name(temporary, target, Path(path), overwrite=overwrite)
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
    """Write ``data`` to ``path`` as a whole or not at all.

    Raises:
        OutputError: as :func:`atomic_writer`.
    """
    with atomic_writer(path, overwrite=overwrite) as handle:
        handle.write(data)


def write_text(path: str | os.PathLike[str], text: str, *, overwrite: bool = True) -> None:
    r"""Write ``text`` to ``path`` as UTF-8 with ``\n`` line ends, as a whole or not at all.

    Raises:
        OutputError: as :func:`atomic_writer`.
    """
    write_bytes(path, text.encode("utf-8"), overwrite=overwrite)


def remove_leftovers(folder: str | os.PathLike[str]) -> int:
    """Remove the temporary files in ``folder`` whose writers were killed, and return their number.

    Files that another process is writing at the moment stay. Where the file system has no locks,
    and on Windows, everything stays. Never fails: a file that cannot be removed does no harm.
    """
    removed = 0
    if sys.platform == "win32":
        return removed
    with suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries if _TEMPORARY.fullmatch(entry.name)]:
            path = Path(folder) / name
            with suppress(OSError), path.open("r+b") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The name may be another file's by now, if a second process is cleaning up, too.
                if os.path.samestat(os.fstat(handle.fileno()), path.stat()):
                    path.unlink()
                    removed += 1
    return removed


def _open_locked(path: Path) -> BinaryIO:
    while True:
        handle = path.open("xb")
        if sys.platform != "win32":
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
        if path.exists():
            return handle
        handle.close()  # another process took it for a leftover before it was locked


def _take_name(temporary: Path, target: Path, asked: Path, *, overwrite: bool) -> None:
    if not overwrite:
        try:
            # Unlike a rename it fails if the name was taken while the file was being written.
            os.link(temporary, target)
        except OSError:  # taken, or a file system without hard links
            check_writable(asked, overwrite=False)
        else:
            temporary.unlink()
            return
    temporary.replace(target)


def _output_error(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    failure = OutputError(
        f"cannot write {path}: {reason}; check the folder, its permissions and the space left"
    )
    failure.errno = error.errno
    return failure


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable, where the system lets a folder be opened for that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
