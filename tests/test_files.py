"""A file is the old one or the new one, whole, whatever happens on the way."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mpa_core.errors import OutputError
from mpa_core.files import atomic_writer, check_writable, write_bytes, write_text

OLD = b"the old content"


@pytest.fixture
def target(tmp_path):
    file = tmp_path / "out.bin"
    file.write_bytes(OLD)
    return file


def test_new_and_existing_files(tmp_path):
    write_bytes(tmp_path / "a", b"one")
    assert (tmp_path / "a").read_bytes() == b"one"
    write_text(tmp_path / "a", "zwei\nü")
    assert (tmp_path / "a").read_bytes() == "zwei\nü".encode()
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_permissions_are_the_usual_ones_and_kept(tmp_path):
    mask = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    (tmp_path / "a").chmod(0o604)
    write_bytes(tmp_path / "a", b"again")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o604


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interrupt_leaves_the_old_file_and_nothing_else(target, error):
    with pytest.raises(error), atomic_writer(target) as handle:
        handle.write(b"half of the n")
        raise error
    assert target.read_bytes() == OLD
    assert list(target.parent.iterdir()) == [target]


def test_a_full_disk_leaves_the_old_file(target):
    """With a limit on file sizes the kernel refuses in the middle of the write, as a full disk."""
    code = (
        "import resource, sys\n"
        "from mpa_core.files import write_bytes\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: write_bytes(sys.argv[1], bytes(100000))\n"
        "except OSError as error: print(type(error).__name__, error)\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"OutputError cannot write {target}: File too large")
    assert target.read_bytes() == OLD
    assert list(target.parent.iterdir()) == [target]


def test_no_overwriting_unless_allowed(target):
    for attempt in (
        check_writable,
        lambda file, overwrite: write_bytes(file, b"", overwrite=overwrite),
    ):
        with pytest.raises(OutputError, match="already exists"):
            attempt(target, overwrite=False)
    assert target.read_bytes() == OLD


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path):
    file = tmp_path / "a"
    with (
        pytest.raises(OutputError, match="already exists"),
        atomic_writer(file, overwrite=False) as handle,
    ):
        handle.write(b"mine")
        file.write_bytes(b"theirs")
    assert file.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [file]


def test_places_that_cannot_be_written(tmp_path, target):
    for place, expected in [
        (tmp_path / "no" / "a", "does not exist; create it first"),
        (tmp_path, "is a folder"),
        (target / "a", "Not a directory"),
        (tmp_path / ("x" * 300), "File name too long"),
    ]:
        with pytest.raises(OutputError, match=expected) as early:
            check_writable(place, overwrite=True)
        with pytest.raises(OutputError, match=expected) as late:
            write_bytes(place, b"")
        assert str(early.value) == str(late.value)
        assert "\n" not in str(late.value)


def test_links_are_followed_and_devices_written(tmp_path, target):
    link = tmp_path / "link"
    link.symlink_to(target)
    write_bytes(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    write_bytes(os.devnull, b"gone", overwrite=False)
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    with pytest.raises(OutputError, match="No space left"):
        write_bytes("/dev/full", b"x")
