"""Real processes that are ended in the middle: only whole files stay, and a second run goes on."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from mpa_core import MPACodec
from mpa_core.cli.batch.signals import Terminated, ending_signals, uninterrupted
from mpa_core.io.files import remove_leftovers

PROC = Path("/proc")
COUNT = 24


def wait_until(condition: Callable[[], object], seconds: float = 900) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def outputs(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*.mpa")}


def hidden(folder: Path) -> list[Path]:
    return list(folder.glob(".*"))


@pytest.fixture(scope="module")
def source(photos, tmp_path_factory) -> Path:
    """Pictures that take a tenth of a second each or so, and one that is none."""
    folder = tmp_path_factory.mktemp("source")
    with Image.open(photos[0]) as photo:
        for number in range(COUNT):
            box = (4 * number, 50, 4 * number + 96, 114)
            photo.convert("RGB").crop(box).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def expected(source, base) -> dict[str, bytes]:
    """What every output has to be, from one thread."""
    codec = MPACodec.from_pretrained(base)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {
            f"{file.stem}.mpa": codec.encode(Image.open(file)) for file in sorted(source.iterdir())
        }
    finally:
        torch.set_num_threads(threads)


def workers_of(pid: int) -> list[int]:
    """Worker processes of ``pid``."""
    found = []
    for entry in PROC.iterdir():
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_bytes()
        except (OSError, ValueError, IndexError):
            continue
        if parent == pid and b"spawn_main" in command:
            found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_killed_at_random_moments_and_resumed(start, base, source, expected, tmp_path):
    """Whenever it is killed: whole files, at most one unfinished one, and the next run goes on."""
    out = tmp_path / "out"
    chance = random.Random(5)
    words = ("encode", source, "-o", out, "--base", base, "--resume", "--format", "json")
    kills = before = 0
    while before < COUNT - 6:  # from here on a run might end before it is killed
        running = start(*words)
        wait_until(lambda: len(outputs(out)) > before)  # noqa: B023 -- called at once
        time.sleep(chance.uniform(0, 0.02))
        running.signal(signal.SIGKILL)
        assert running.wait().code == -signal.SIGKILL
        found = outputs(out)
        assert found == {name: expected[name] for name in found}
        assert len(hidden(out)) <= 1
        kills, before = kills + 1, len(found)
    assert kills >= 3
    done = start(*words).wait()
    assert done.code == 0, done.err
    assert outputs(out) == expected
    assert hidden(out) == []
    assert (done.sums["skipped"], done.sums["done"]) == (before, COUNT - before)


def test_what_killed_writers_left_is_removed_and_what_is_written_is_not(
    start, base, source, tmp_path
):
    out = tmp_path / "out"
    out.mkdir()
    left = out / ".mpa-0123456789abcdef.tmp"
    left.write_bytes(b"half a fi")
    for other in (".mpa-notours.tmp", "mpa-0123456789abcdef.tmp", ".mpa-0123456789abcdef.tmp.mpa"):
        (out / other).write_bytes(b"of somebody else")
    done = start("encode", source / "00.png", "-o", out, "--base", base).wait()
    assert done.code == 0
    assert done.err == "mpa: removed 1 temporary files of runs that were killed\n"
    assert not left.exists()
    assert len(list(out.iterdir())) == 4


@pytest.mark.parametrize(
    ("number", "code", "last"),
    [
        (signal.SIGINT, 130, "mpa: interrupted"),
        (signal.SIGTERM, 143, "not reached: go on with --resume"),
        (signal.SIGHUP, 129, "not reached: go on with --resume"),
    ],
)
def test_a_signal_ends_the_run_with_its_counts(
    start, base, source, expected, tmp_path, number, code, last
):
    for attempt in range(5):
        out = tmp_path / f"out{attempt}"
        running = start("encode", source, "-o", out, "--base", base, "--format", "json")
        wait_until(lambda out=out: len(outputs(out)) >= 2)
        running.signal(number)
        done = running.wait()
        if done.code != 0:
            break
        # On a busy machine all may be done before the signal is sent.
        assert done.sums["done"] == COUNT
    assert done.code == code, done.err
    found = outputs(out)
    assert found == {name: expected[name] for name in found}
    assert hidden(out) == []
    assert done.sums["stopped"] == signal.Signals(number).name
    # One more may have its name already, but not yet its line.
    assert done.sums["done"] == len(done.rows)
    assert len(found) - done.sums["done"] in (0, 1)
    assert done.sums["total"] == COUNT
    assert last in done.errors[-1]
    assert f"{COUNT - done.sums['done']} not reached" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_belongs_together_is_not_torn_apart(number, usual_handlers):
    before = signal.getsignal(number)
    finished = []
    with pytest.raises(KeyboardInterrupt) as caught, ending_signals():
        with uninterrupted():
            os.kill(os.getpid(), number)
            finished.append("the block")
        finished.append("what comes behind it")
    assert finished == ["the block"]
    assert isinstance(caught.value, Terminated) is (number == signal.SIGTERM)
    assert signal.getsignal(number) is before


def test_a_second_signal_does_not_wait(usual_handlers):
    finished = []
    with pytest.raises(Terminated), ending_signals(), uninterrupted():
        os.kill(os.getpid(), signal.SIGTERM)
        finished.append("this")
        os.kill(os.getpid(), signal.SIGTERM)
        finished.append("but not this")
    assert finished == ["this"]
    with uninterrupted():
        pass  # nothing is left over


def test_two_runs_at_once_share_the_work(start, base, source, expected, tmp_path):
    words = ("encode", source, "-o", tmp_path / "out", "--base", base, "--resume")
    both = [start(*words, "--format", "json") for _ in range(2)]
    results = [running.wait() for running in both]
    assert [done.code for done in results] == [0, 0], results[0].err + results[1].err
    assert outputs(tmp_path / "out") == expected
    assert sum(done.sums["done"] for done in results) == COUNT


# ---------------------------------------------------------------------- worker processes


def test_workers_write_the_same_bytes(start, base, source, expected, tmp_path):
    """Two workers, and one of this process's own, which the other tests compare with."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    inputs = [*sorted(source.iterdir()), broken]
    words = ("-o", tmp_path / "out", "--base", base, "--format", "json", "--jobs", 2)
    done = start("encode", *inputs, *words).wait()
    assert done.code == 1
    assert outputs(tmp_path / "out") == expected
    assert (done.sums["done"], done.sums["failed"]) == (COUNT, 1)
    errors = [line for line in done.errors if "error" in line]
    assert len(errors) == 1
    assert "broken.png is not a picture" in errors[0]


@pytest.fixture
def big(photos, tmp_path) -> Iterator[Path]:
    """Enough large pictures that a worker is always in the middle of one."""
    folder = tmp_path / "big"
    folder.mkdir()
    with Image.open(photos[0]) as photo:
        photo.convert("RGB").crop((0, 0, 256, 256)).save(folder / "0.png")
    for number in range(1, 50):
        shutil.copy(folder / "0.png", folder / f"{number}.png")
    return folder


@pytest.mark.skipif(not PROC.is_dir(), reason="finds the worker in /proc")
def test_a_worker_that_dies_costs_one_file_and_ctrl_c_ends_all(start, base, big, tmp_path):
    out = tmp_path / "out"
    running = start("encode", big, "-o", out, "--base", base, "--format", "json", "--jobs", 1)
    wait_until(lambda: outputs(out))
    (first,) = workers_of(running.pid)
    os.kill(first, signal.SIGKILL)
    before = len(outputs(out))
    wait_until(lambda: len(outputs(out)) > before + 1)
    (second,) = workers_of(running.pid)
    running.signal(signal.SIGINT, group=True)  # as a terminal does
    done = running.wait()
    assert done.code == 130
    assert done.sums["stopped"] == "SIGINT"
    (error,) = [row["error"] for row in done.rows if "error" in row]
    assert error["type"] == "WorkerError"
    assert "SIGKILL" in error["message"]
    assert "Traceback" not in done.err
    assert not alive(first)
    assert not alive(second)
    assert hidden(out) == [] or remove_leftovers(out) == 1  # of the one that was killed
    assert len(outputs(out)) - done.sums["done"] in (0, 1)


@pytest.mark.skipif(not PROC.is_dir(), reason="finds the worker in /proc")
def test_workers_do_not_outlive_a_killed_run(start, base, big, tmp_path):
    out = tmp_path / "out"
    running = start("encode", big, "-o", out, "--base", base, "--format", "json", "--jobs", 1)
    wait_until(lambda: len(outputs(out)) > 1)  # then the first has been reported
    workers = workers_of(running.pid)
    running.signal(signal.SIGKILL)
    done = running.wait()
    assert done.code == -signal.SIGKILL
    wait_until(lambda: not any(map(alive, workers)))
    assert hidden(out) == []
    assert len(outputs(out)) < 50
    # What was reported before stays readable, line by line.
    lines = done.out.splitlines()
    assert lines
    assert all(Path(json.loads(line)["output"]).is_file() for line in lines)


def test_an_error_that_concerns_every_job_ends_the_run(start, source, tmp_path):
    words = ("--base", "nothing", "--jobs", 1, "--format", "json")
    done = start("encode", source, "-o", tmp_path / "out", *words).wait()
    assert done.code == 1
    assert len(done.errors) == 1
    assert done.data["error"]["type"] == "CheckpointError"
    assert list((tmp_path / "out").iterdir()) == []
