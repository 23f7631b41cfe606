"""A search on the command line: its steps on a terminal, and Ctrl-C, which ends it with a file."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forks import Result, Running
from PIL import Image

from mpa_core import MPACodec
from mpa_core.cli.batch.printer import OutcomePrinter

AGAIN = "the search ends here and its file is written; Ctrl-C again stops at once"


class Terminal:
    """A terminal, and all that was written on it."""

    def __init__(self) -> None:
        self._ours, self._theirs = os.openpty()
        self.name = os.ttyname(self._theirs)
        self._seen: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self._ours, 4096):
                self._seen.append(data)
        except OSError:  # the last process has closed it
            return

    @property
    def text(self) -> str:
        """Without colours and moves of the cursor."""
        seen = b"".join(self._seen).decode("utf-8", "replace")
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)

    def wait_for(self, pattern: str, running: Running) -> None:
        end = time.monotonic() + 60
        while not re.search(pattern, self.text):
            assert time.monotonic() < end, f"waited in vain for {pattern!r}: {self.text!r}"
            os.kill(running.pid, 0)
            time.sleep(0.005)

    def close(self) -> None:
        os.close(self._theirs)
        self._reader.join()
        os.close(self._ours)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


@pytest.fixture(scope="module")
def pictures(photos, tmp_path_factory) -> Path:
    """Three pieces of a photo, each 64x64."""
    folder = tmp_path_factory.mktemp("pictures")
    with Image.open(photos[0]) as photo:
        for number in range(3):
            left = 64 * number
            piece = photo.convert("RGB").crop((left, 60, left + 64, 124))
            piece.save(folder / f"{number}.png")
    return folder


@pytest.fixture
def encoding(start, base, terminal) -> Callable[..., Running]:
    """Start ``mpa encode`` with the terminal as stderr."""

    def call(source: Path, output: Path, *words: object, base: object = base) -> Running:
        words = ("encode", source, "-o", output, "--base", base, *words)
        return start(*words, stderr=terminal.name, env={"TERM": "xterm"})

    return call


def whole(folder: Path, base: object) -> list[str]:
    """Names in ``folder``, of files that can all be decoded."""
    codec = MPACodec.from_pretrained(base)
    for file in folder.iterdir():
        assert codec.decode(file.read_bytes()).size == (64, 64)
    return sorted(file.name for file in folder.iterdir())


# ---------------------------------------------------------------------- steps


def test_the_steps_of_one_picture(encoding, terminal, pictures, tmp_path):
    done = encoding(pictures / "0.png", tmp_path / "a.mpa", "--effort", 2).wait()
    assert done.code == 0
    assert re.search(r"\b\d/10 .*0\.png", terminal.text)
    assert (tmp_path / "a.mpa").is_file()


def test_each_search_for_a_target_is_counted_from_one(encoding, terminal, pictures, tmp_path):
    words = ("--effort", 1, "--target-psnr", 32)
    running = encoding(pictures / "0.png", tmp_path / "a.mpa", *words, base="mpa-small")
    assert running.wait().code == 0
    assert re.search(r"\b[1-5]/5 .*0\.png, search 2", terminal.text)


def test_each_picture_of_several_has_a_line(encoding, terminal, pictures, tmp_path):
    done = encoding(pictures, tmp_path / "out", "--effort", 3, "--jobs", 2).wait()
    assert done.code == 0
    for number in range(3):
        assert re.search(rf"\b\d+/15 .*{number}\.png", terminal.text)
    assert re.search(r"\b1/3\b", terminal.text)
    assert terminal.text.endswith("mpa: 3 inputs: 3 done, 0 skipped, 0 failed\r\n")


def test_json_has_no_steps(encoding, terminal, pictures, tmp_path):
    words = ("--effort", 2, "--format", "json")
    done = encoding(pictures / "0.png", tmp_path / "a.mpa", *words).wait()
    assert (done.code, done.sums["done"], terminal.text) == (0, 1, "")


def test_nothing_is_shown_without_a_terminal(start, base, pictures, tmp_path):
    words = ("encode", pictures / "0.png", "-o", tmp_path / "a.mpa", "--base", base)
    done = start(*words, "--effort", 2).wait()
    assert (done.code, done.err) == (0, "")


# ---------------------------------------------------------------------- Ctrl-C


def test_the_file_is_what_was_found_until_then(mpa, sample, tmp_path, monkeypatch, usual_handlers):
    """A signal to this process, at a step that is known."""
    sample.crop((100, 60, 164, 124)).save(tmp_path / "a.png")
    show = OutcomePrinter.step

    def interrupt(printer: OutcomePrinter, place: int, name: str, done: int, *more, **words):
        if done == 9:
            os.kill(os.getpid(), signal.SIGINT)
        show(printer, place, name, done, *more, **words)

    monkeypatch.setattr(OutcomePrinter, "step", interrupt)
    done = mpa("encode", tmp_path / "a.png", "-o", tmp_path / "a.mpa", "-q", 3, "--effort", 6)
    assert done.code == 130
    assert done.errors == [f"mpa: {AGAIN}", "mpa: interrupted"]
    assert "a.mpa" in done.out
    codec = MPACodec.from_pretrained("mpa-small")
    with Image.open(tmp_path / "a.png") as piece:
        expected = codec.encode(piece, 3, effort=6, progress=lambda done, _: done < 10)
        assert len(expected) < len(codec.encode(piece, 3))  # something was found by then
    assert (tmp_path / "a.mpa").read_bytes() == expected


def test_the_file_at_hand_is_finished_and_the_rest_left(
    encoding, terminal, base, pictures, tmp_path
):
    out = tmp_path / "out"
    running = encoding(pictures, out, "--effort", 9)
    terminal.wait_for(r"\b[1-9]\d*/400", running)
    running.signal(signal.SIGINT, group=True)
    done = running.wait()
    assert done.code == 130
    assert "400/400" not in terminal.text
    assert terminal.text.count(AGAIN) == 1
    assert "3 inputs: 1 done, 0 skipped, 0 failed, 2 not reached" in terminal.text
    assert whole(out, base) == ["0.mpa"]
    assert str(out / "0.mpa") in done.out
    rest = encoding(pictures, out, "--resume", "--format", "json").wait()
    assert (rest.code, rest.sums["skipped"], rest.sums["done"]) == (0, 1, 2)


def test_workers_finish_what_they_search(encoding, terminal, base, pictures, tmp_path):
    out = tmp_path / "out"
    running = encoding(pictures, out, "--effort", 9, "--jobs", 2)
    for name in ("0.png", "1.png"):
        terminal.wait_for(rf"\b\d+/400 .*{name}", running)
    running.signal(signal.SIGINT, group=True)  # as a terminal does
    done = running.wait()
    assert done.code == 130
    assert terminal.text.count(AGAIN) == 1
    assert "3 inputs: 2 done, 0 skipped, 0 failed, 1 not reached" in terminal.text
    assert whole(out, base) == ["0.mpa", "1.mpa"]


@pytest.mark.parametrize("jobs", [(), ("--jobs", 1)])
def test_a_second_ctrl_c_does_not_wait(encoding, terminal, pictures, tmp_path, jobs):
    """With a base that takes a while to code what was found."""

    def interrupted_twice(output: Path) -> Result:
        words = ("--effort", 9, *jobs)
        running = encoding(pictures / "0.png", output, *words, base="mpa-small")
        seen = len(re.findall(AGAIN, terminal.text))
        terminal.wait_for(rf"(?s)({AGAIN}.*){{{seen}}}\b[1-9]\d*/400", running)
        running.signal(signal.SIGINT, group=True)
        terminal.wait_for(rf"(?s)({AGAIN}.*){{{seen + 1}}}", running)
        running.signal(signal.SIGINT, group=True)
        return running.wait()

    for attempt in range(5):
        output = tmp_path / f"{attempt}.mpa"
        done = interrupted_twice(output)
        assert done.code == 130
        if not output.exists():  # on a busy machine it may be finished before the second comes
            break
    assert (done.out, list(tmp_path.glob(f"*{attempt}.mpa*"))) == ("", [])
    assert list(tmp_path.glob(".*")) == []


def test_other_signals_undo_the_file(encoding, terminal, pictures, tmp_path):
    running = encoding(pictures / "0.png", tmp_path / "a.mpa", "--effort", 9)
    terminal.wait_for(r"\b[1-9]\d*/400", running)
    running.signal(signal.SIGTERM)
    assert running.wait().code == 143
    assert AGAIN not in terminal.text
    assert list(tmp_path.iterdir()) == []
