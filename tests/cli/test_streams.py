"""Standard streams that are closed, full or left open: one line, and a true exit status."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-W", "error", "-X", "dev", "-m", "mpa_core.cli"]
"""Python in its development mode names every file that nobody closed."""
# Its checks of every allocation would only make importing torch slow.
ENVIRONMENT = {**os.environ, "PYTHONMALLOC": "default"}
FULL = Path("/dev/full")
NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2}


def mpa(*words: object, closed: str = "", stdout=subprocess.PIPE, stderr=subprocess.PIPE):
    """The command in a process of its own, in which the streams named in ``closed`` are closed."""

    def close() -> None:
        for name in closed.split():
            os.close(NUMBERS[name])

    return subprocess.run(
        [*COMMAND, *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
        env=ENVIRONMENT,
        errors="replace",
        preexec_fn=close if closed else None,
    )


@pytest.fixture
def words(base, encoded, picture, tmp_path):
    """A command line with the names of files put in."""
    names = {"base": base, "mpa": encoded, "png": picture, "out": tmp_path / "out"}
    return lambda text: text.format(**names).split()


WRITING = (
    "info {mpa}",
    "info {mpa} --format json",
    "decode {mpa} --base {base} -o -",
    "encode {png} --base {base} -q 3 -o {out} --format json",
    "paths ls",
    "--help",
    "info --help",
    "--version",
)


@pytest.mark.parametrize("text", WRITING)
def test_nothing_is_left_open(words, text):
    done = mpa(*words(text))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize("text", WRITING)
def test_a_closed_stdout_is_one_line(words, text, encoded, tmp_path):
    done = mpa(*words(text), closed="stdout")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.startswith("mpa: error: ")
    assert "cannot write to stdout: it is closed; give " in line
    if text.startswith("encode"):  # what was made is whole, though the report is lost
        assert (tmp_path / "out").read_bytes() == encoded.read_bytes()


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
@pytest.mark.parametrize("text", WRITING)
def test_a_full_stdout_is_one_line(words, text):
    with FULL.open("w") as full:
        done = mpa(*words(text), stdout=full)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.startswith("mpa: error: ")
    assert "cannot write to stdout: No space left on device; give " in line


def test_where_nothing_is_written_a_closed_stdout_is_no_error(words, encoded, tmp_path):
    """A file that is there already leaves nothing to say on stdout."""
    shutil.copy(encoded, tmp_path / "out")
    done = mpa(*words("encode {png} --base {base} -q 3 -o {out} --resume"), closed="stdout")
    assert (done.returncode, done.stderr) == (0, "mpa: 1 inputs: 0 done, 1 skipped, 0 failed\n")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("info -", 1),
        ("decode - --base {base} -o {out}.png", 1),
        ("encode - --base {base} -o {out}", 1),
        ("encode --from-file - --base {base} -o {out}/", 2),
    ],
)
def test_a_closed_stdin_is_one_line(words, text, code):
    done = mpa(*words(text), closed="stdin")
    (line,) = done.stderr.splitlines()
    assert done.returncode == code
    assert "cannot read from stdin: it is closed; give " in line


@pytest.mark.parametrize(
    ("text", "code"), [("info {mpa}", 0), ("info {out}", 1), ("info", 2), ("--help", 0)]
)
def test_a_closed_stderr_changes_no_exit_status(words, text, code):
    done = mpa(*words(text), closed="stderr")
    assert done.returncode == code
    assert bool(done.stdout) == (code == 0)
    assert mpa(*words(text), closed="stdin stderr").stdout == done.stdout


def test_no_file_takes_the_number_of_a_closed_stream(words, encoded, tmp_path):
    """A library that prints to descriptor 1 would write into it."""
    done = mpa(*words("encode {png} --base {base} -q 3 -o {out}"), closed="stdin stdout stderr")
    assert done.returncode == 1
    assert (tmp_path / "out").read_bytes() == encoded.read_bytes()


@pytest.mark.parametrize("form", ["text", "json"])
def test_within_a_program_the_streams_are_as_before(encoded, form):
    code = f"""
import os, sys
from mpa_core.cli.main import main
before = sys.stdout, sys.stderr, sorted(os.listdir("/proc/self/fd"))
assert main(["info", {str(encoded)!r}, "--format", {form!r}]) == 0
assert before == (sys.stdout, sys.stderr, sorted(os.listdir("/proc/self/fd")))
print("mine")
"""
    if not Path("/proc/self/fd").exists():
        pytest.skip("no list of open descriptors")
    done = subprocess.run(
        [*COMMAND[:-2], "-c", code],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("mine\n")


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
@pytest.mark.parametrize(
    ("text", "code"), [("info {mpa}", 0), ("info {out}", 1), ("info", 2), ("decode", 2)]
)
def test_a_full_stderr_changes_no_exit_status(words, text, code):
    with FULL.open("w") as full:
        done = mpa(*words(text), stderr=full)
    assert done.returncode == code
    assert bool(done.stdout) == (code == 0)


@pytest.mark.parametrize("module", ["mpa_core.demo", "mpa_core.evaluation.compressai_eval"])
@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
def test_other_commands_say_so_too(module):
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert "error: cannot write to stdout: No space left on device; give " in line
