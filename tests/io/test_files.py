"""A file is the old one or the new one, whole, whatever happens on the way."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mpa_core.errors import OutputError
from mpa_core.io.files import (
    atomic_writer,
    check_writable,
    remove_leftovers,
    write_bytes,
    write_text,
)

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
        "from mpa_core.io.files import write_bytes\n"
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


def test_the_reason_of_the_system_is_kept(tmp_path):
    with pytest.raises(OutputError) as full:
        write_bytes("/dev/full", b"x")
    assert full.value.errno == errno.ENOSPC
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(OutputError) as ours:
        write_bytes(tmp_path / "a", b"", overwrite=False)
    assert ours.value.errno is None


def test_of_many_writers_at_once_one_wins(tmp_path):
    """Without overwriting: nobody's file is lost, and everybody else is told."""
    together = threading.Barrier(8)

    def write(number: int) -> int | None:
        try:
            with atomic_writer(file, overwrite=False) as handle:
                handle.write(bytes([number]) * 100)
                together.wait(timeout=300)
        except OutputError as error:
            assert "already exists" in str(error)
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        for turn in range(20):
            file = tmp_path / str(turn)
            (winner,) = [n for n in pool.map(write, range(8)) if n is not None]
            assert file.read_bytes() == bytes([winner]) * 100
    assert len(list(tmp_path.iterdir())) == 20


def test_a_file_that_appears_at_the_very_last_moment_is_not_overwritten(tmp_path, monkeypatch):
    """Another process writes it right before the system call that would give the name away."""
    file = tmp_path / "a"

    def after_another_process(call):
        def called(*args: object) -> object:
            file.write_bytes(b"theirs")
            return call(*args)

        return called

    monkeypatch.setattr(os, "link", after_another_process(os.link))
    monkeypatch.setattr(Path, "replace", after_another_process(Path.replace))
    with pytest.raises(OutputError, match="already exists"):
        write_bytes(file, b"mine", overwrite=False)
    assert file.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [file]


def test_without_hard_links_nothing_is_overwritten_either(target, monkeypatch):
    """As FAT answers, which cannot be mounted in a test."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    new = target.with_name("new")
    write_bytes(new, b"content", overwrite=False)
    assert new.read_bytes() == b"content"
    target.unlink()
    with (
        pytest.raises(OutputError, match="already exists"),
        atomic_writer(target, overwrite=False),
    ):
        target.write_bytes(OLD)
    assert target.read_bytes() == OLD
    assert sorted(file.name for file in target.parent.iterdir()) == ["new", "out.bin"]


def test_what_a_killed_process_leaves_is_removed(target):
    """And nothing else: another process that is still writing is not disturbed."""
    code = (
        "import sys\n"
        "from mpa_core.io.files import atomic_writer\n"
        "with atomic_writer(sys.argv[1]) as handle:\n"
        "    handle.write(b'new' * 10000)\n"
        "    handle.flush()\n"
        "    print(flush=True)\n"
        "    sys.stdin.read()\n"
    )
    killed, alive = (
        subprocess.Popen(
            [sys.executable, "-c", code, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(2)
    )
    with killed, alive:
        killed.stdout.readline()
        alive.stdout.readline()
        staged = target.parent / ".mpa-0123456789abcdef.tmp"
        staged.mkdir()  # a folder that is being put together, as of a checkpoint
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert target.read_bytes() == OLD
        assert len(list(target.parent.iterdir())) == 4
        assert remove_leftovers(target.parent) == 1
        assert remove_leftovers(target.parent) == 0
        assert target.read_bytes() == OLD
        alive.stdin.close()
        assert alive.wait() == 0
    assert target.read_bytes() == b"new" * 10000
    assert set(target.parent.iterdir()) == {target, staged}
    assert remove_leftovers(target.parent / "missing") == 0


def test_cleaning_up_never_meets_a_file_that_is_being_written(tmp_path):
    """Two that clean all the time, two that write all the time."""
    writing = threading.Event()
    writing.set()

    def clean() -> int:
        removed = 0
        while writing.is_set():
            removed += remove_leftovers(tmp_path)
        return removed

    def write(number: int) -> None:
        for turn in range(150):
            write_bytes(tmp_path / f"{number}-{turn}", b"content", overwrite=bool(turn % 2))

    with ThreadPoolExecutor(4) as pool:
        cleaners = [pool.submit(clean) for _ in range(2)]
        writers = [pool.submit(write, number) for number in range(2)]
        try:
            for writer in writers:
                writer.result()
        finally:
            writing.clear()
        for cleaner in cleaners:
            cleaner.result()
    assert {file.read_bytes() for file in tmp_path.iterdir()} == {b"content"}
    assert len(list(tmp_path.iterdir())) == 300
