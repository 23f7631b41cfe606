"""Threads and processes of a command: what is chosen, what the libraries get, what comes out."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from parser_leaves import command_of, leaves
from PIL import Image

from mpa_core.cli.batch import pool, workers
from mpa_core.cli.batch.job_list import Group, JobList
from mpa_core.cli.batch.jobs import JobOutcome, Rules
from mpa_core.cli.batch.pool import Pool, choose_pool
from mpa_core.cli.batch.printer import OutcomePrinter
from mpa_core.cli.encode import EncoderSettings
from mpa_core.cli.main import build_parser
from mpa_core.cli.threads import COUNTING, WAITING, choose

COMMAND = [sys.executable, "-m", "mpa_core.cli"]
SLEEP = {"OMP_WAIT_POLICY": "PASSIVE"}
SPIN = {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "0"}
GIB = 2**30
MARK = "OPENMP DISPLAY ENVIRONMENT BEGIN"
"""GNU's OpenMP prints this once for each process that loads it, if ``OMP_DISPLAY_ENV`` is set."""


def shell(*words: object, **variables: str) -> subprocess.CompletedProcess:
    """``mpa`` in an environment that says nothing of threads but ``variables``."""
    env = {name: text for name, text in os.environ.items() if name not in (*COUNTING, *WAITING)}
    return subprocess.run(
        [*COMMAND, *map(str, words)], capture_output=True, text=True, env={**env, **variables}
    )


# ---------------------------------------------------------------------- the choice


@pytest.mark.parametrize(
    ("asked", "said", "busy", "lasting", "threads", "variables"),
    [
        (None, {}, 0.0, False, 4, {"OMP_NUM_THREADS": "4", **SPIN}),
        (None, {}, 0.4, False, 4, {"OMP_NUM_THREADS": "4", **SPIN}),
        (None, {}, 0.5, False, 3, {"OMP_NUM_THREADS": "3", **SLEEP}),
        (None, {}, 2.2, False, 2, {"OMP_NUM_THREADS": "2", **SLEEP}),
        (None, {}, 17.0, False, 1, {"OMP_NUM_THREADS": "1", **SLEEP}),
        (None, {}, 3.0, True, 4, {"OMP_NUM_THREADS": "4", **SLEEP}),
        (None, {}, 0.0, True, 4, {"OMP_NUM_THREADS": "4", **SPIN}),
        (2, {}, 3.0, False, 2, {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", **SLEEP}),
        # What the user has set stays, whatever it is.
        (None, {"OMP_NUM_THREADS": "3"}, 3.0, False, None, SLEEP),
        (None, {"MKL_NUM_THREADS": "3"}, 0.0, False, None, SPIN),
        (None, {"OMP_WAIT_POLICY": "ACTIVE"}, 3.0, False, 1, {"OMP_NUM_THREADS": "1"}),
        (None, {"GOMP_SPINCOUNT": "9"}, 0.0, False, 4, {"OMP_NUM_THREADS": "4"}),
        (None, {"KMP_BLOCKTIME": "9"}, 0.0, False, 4, {"OMP_NUM_THREADS": "4"}),
        (None, {"OMP_NUM_THREADS": "2", "KMP_BLOCKTIME": "9"}, 3.0, False, None, {}),
        # Said on the command line is said later.
        (1, {"OMP_NUM_THREADS": "8"}, 0.0, False, 1, {**dict.fromkeys(COUNTING, "1"), **SPIN}),
        # Set to nothing is not set.
        (None, {"OMP_NUM_THREADS": "", "OMP_WAIT_POLICY": ""}, 0.0, False, 4,
         {"OMP_NUM_THREADS": "4", **SPIN}),
    ],
)  # fmt: skip
def test_choice(asked, said, busy, lasting, threads, variables):
    choice = choose(asked, said, cpus=4, busy=busy, lasting=lasting)
    assert (choice.threads, choice.variables) == (threads, variables)


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ({}, None),
        ({"OMP_NUM_THREADS": "6"}, 6),
        ({"OMP_NUM_THREADS": "6,2"}, 6),
        ({"OMP_NUM_THREADS": "many"}, None),
        ({"OMP_NUM_THREADS": "6", "MKL_NUM_THREADS": " 2"}, 2),
    ],
)
def test_what_the_user_says_is_understood(said, number):
    assert choose(None, said, cpus=4, busy=0).said == number


COMPUTING = {
    "encode", "decode", "train base", "train path", "train export", "eval", "exact",
    "import-official", "plugins check", "env", "hub card",
}  # fmt: skip


def test_every_command_that_computes_takes_threads():
    takes = {command_of(p) for p in leaves(build_parser()) if "--threads" in p.format_help()}
    assert takes == COMPUTING


@pytest.mark.parametrize("option", ["--threads", "--jobs"])
@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5", "", "1025", "9" * 5000, "²"])
def test_numbers_that_are_none(mpa, tmp_path, option, value):
    done = mpa("encode", tmp_path, "-o", tmp_path / "out", f"{option}={value}")
    assert done.code == 2
    what = {"--threads": "threads", "--jobs": "processes"}[option]
    assert f"argument {option}: {value!r} is no number of {what}; give 1 to 1024" in done.err
    assert not (tmp_path / "out").exists()


def test_threads_asked_for_hold_for_the_command_alone(mpa, monkeypatch):
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    before, environment = torch.get_num_threads(), dict(os.environ)
    data = mpa("env", "--threads", "3", "--format", "json").data
    assert data["torch"]["threads"] == data["threads"]["of_one_process"] == 3
    assert (torch.get_num_threads(), dict(os.environ)) == (before, environment)
    assert mpa("env", "--format", "json").data["torch"]["threads"] == before


def test_the_environment_is_afterwards_as_it_was():
    code = (
        "import os, sys\n"
        "from mpa_core.cli.main import main\n"
        "before = dict(os.environ)\n"
        "main(['env'])\n"
        "sys.exit(before != dict(os.environ))"
    )
    env = {name: text for name, text in os.environ.items() if name not in (*COUNTING, *WAITING)}
    for more in ({}, {"OMP_NUM_THREADS": "2"}):
        done = subprocess.run([sys.executable, "-c", code], env=env | more, capture_output=True)
        assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------------- what the libraries get


def told(text: str) -> list[dict[str, str]]:
    """What each copy of GNU's OpenMP that was loaded says of its settings."""
    blocks = re.findall(MARK + "(.*?)ENVIRONMENT END", text, re.DOTALL)
    if not blocks:
        pytest.skip("torch has another OpenMP, which does not say what it was told")
    return [dict(re.findall(r"(\w+) ?= ?'([^']*)'", block)) for block in blocks]


@pytest.fixture
def busy_machine():
    """As many busy processes as processors."""
    loops = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in os.sched_getaffinity(0)
    ]
    yield
    for loop in loops:
        loop.kill()
        loop.wait()


def test_on_a_busy_machine_one_thread_which_does_not_spin(busy_machine):
    done = shell("env", "--format", "json", OMP_DISPLAY_ENV="verbose")
    data = json.loads(done.stdout)
    assert data["threads"]["of_one_process"] == data["torch"]["threads"] == 1
    assert data["threads"]["busy_processors"] > 0
    assert "OMP_WAIT_POLICY=PASSIVE, as other processes were busy" in data["threads"]["waiting"]
    assert data["variables"] == {}  # of the user
    (settings,) = told(done.stderr)
    assert settings["OMP_WAIT_POLICY"] == "PASSIVE"
    assert settings["OMP_NUM_THREADS"] == "1"


def test_what_the_user_has_set_reaches_the_library():
    user = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "77"}
    done = shell("env", "--format", "json", OMP_DISPLAY_ENV="verbose", **user)
    data = json.loads(done.stdout)
    assert data["threads"]["of_one_process"] == data["torch"]["threads"] == 2
    assert data["threads"]["why"] == "OMP_NUM_THREADS=2"
    assert data["threads"]["waiting"] == "OMP_WAIT_POLICY=ACTIVE, GOMP_SPINCOUNT=77"
    assert data["variables"] == user
    (settings,) = told(done.stderr)
    assert {name: settings[name] for name in user} == user


# ---------------------------------------------------------------------- how many processes


def job_list_of(count: int, folder: Path) -> JobList:
    names = [f"{number}.png" for number in range(count)]
    return JobList("out", ".mpa", False, True, [Group(names, str(folder))])


@pytest.mark.parametrize(
    ("jobs", "threads", "said", "files", "cpus", "gibibytes", "expected"),
    [
        (None, None, {}, 20, 8, 64, Pool(8, 1)),
        (None, None, {}, 3, 8, 64, Pool(3, 1)),
        (None, None, {}, 1, 8, 64, Pool(0, 1)),
        (None, None, {}, 20, 1, 64, Pool(0, 1)),
        (None, None, {}, 20, 8, None, Pool(8, 1)),
        (None, 2, {}, 20, 8, 64, Pool(4, 2)),
        (None, 3, {}, 20, 8, 64, Pool(2, 3)),
        (None, 8, {}, 20, 8, 64, Pool(0, 8)),
        (None, 9, {}, 20, 8, 64, Pool(0, 9)),
        # As many processors are used as the user means to be used.
        (None, None, {"OMP_NUM_THREADS": "1"}, 20, 8, 64, Pool(0, 1)),
        (None, None, {"OMP_NUM_THREADS": "3"}, 20, 8, 64, Pool(3, 1)),
        (None, 2, {"OMP_NUM_THREADS": "4"}, 20, 8, 64, Pool(2, 2)),
        (None, None, {"OMP_NUM_THREADS": "64"}, 20, 8, 64, Pool(8, 1)),
        # Pictures of 4 megapixels take about 2.6 GiB each.
        (None, None, {}, 20, 8, 8, Pool(3, 1)),
        (None, None, {}, 20, 8, 4, Pool(0, 1)),
        (None, None, {}, 20, 8, 0, Pool(0, 1)),
        # What is asked for is done.
        (5, None, {"OMP_NUM_THREADS": "1"}, 20, 2, 0, Pool(5, 1)),
        (5, 4, {}, 20, 2, 0, Pool(5, 4)),
        (5, None, {}, 3, 2, 64, Pool(3, 1)),
        (1, None, {}, 1, 2, 64, Pool(1, 1)),
    ],
)
def test_pool(monkeypatch, tmp_path, jobs, threads, said, files, cpus, gibibytes, expected):
    """The largest of the pictures looked at counts; what is none is left to its turn."""
    memory = None if gibibytes is None else gibibytes * GIB
    monkeypatch.setattr(pool, "usable_cpus", lambda: cpus)
    monkeypatch.setattr(pool, "free_memory", lambda: memory)
    (tmp_path / "0.png").write_bytes(b"no picture")
    os.mkfifo(tmp_path / "1.png")  # opening it would wait for ever
    Image.new("1", (2500, 1600)).save(tmp_path / "2.png")
    Image.new("1", (25, 16)).save(tmp_path / "3.png")
    choice = choose(threads, said, cpus=cpus, busy=0)
    args = argparse.Namespace(jobs=jobs, threads=threads, choice=choice)
    settings = EncoderSettings(
        base="mpa-small",
        goal=4.5,
        effort=0,
        importance=None,
        reader=None,
        load=(),
        frame=None,
        profile="exact",
        reproducible=False,
        strip=None,
        orient=True,
    )
    assert choose_pool(args, job_list_of(files, tmp_path), settings) == expected


def test_a_few_pictures_of_many_are_looked_at(monkeypatch, tmp_path):
    looked = []
    settings = SimpleNamespace(pixels=lambda job: looked.append(job.source) or 1)
    job_list = job_list_of(1000, tmp_path)
    for job in job_list:
        Path(job.source).touch()
    assert list(pool._pixels(job_list, settings)) == [1] * len(looked)
    assert 16 < len(looked) <= 32
    assert looked[0] == str(tmp_path / "0.png")
    assert int(Path(looked[-1]).stem) > 950


@pytest.mark.parametrize(("command", "suffix"), [("encode", ".png"), ("decode", ".mpa")])
def test_several_files_are_the_work_of_several_processes(
    base, picture, encoded, tmp_path, command, suffix
):
    """By default, as the loaded copies of OpenMP say, each of which has one thread."""
    data = {"encode": picture, "decode": encoded}[command].read_bytes()
    for name in "abc":
        (tmp_path / f"{name}{suffix}").write_bytes(data)
    words = (command, "--base", base, "--format", "json")
    done = shell(*words, tmp_path, "-o", tmp_path / "out", OMP_DISPLAY_ENV="verbose")
    assert done.returncode == 0, done.stderr
    files = [json.loads(line) for line in done.stdout.splitlines()[:-1]]
    assert [Path(row["input"]).stem for row in files] == ["a", "b", "c"]
    if MARK not in done.stderr:
        pytest.skip("torch has another OpenMP, which does not say what it was told")
    assert done.stderr.count(MARK) == min(3, len(os.sched_getaffinity(0)))


def test_one_file_is_the_work_of_one_process(base, encoded, tmp_path):
    words = ("decode", encoded, "-o", tmp_path / "a.png", "--base", base)
    done = shell(*words, OMP_DISPLAY_ENV="verbose")
    assert done.returncode == 0, done.stderr
    if MARK not in done.stderr:
        pytest.skip("torch has another OpenMP, which does not say what it was told")
    assert done.stderr.count(MARK) == 1


# ---------------------------------------------------------------------- whatever the number


@pytest.fixture(scope="module")
def uneven(photos, tmp_path_factory) -> Path:
    """Pictures of which the first takes longest, and two that are none."""
    folder = tmp_path_factory.mktemp("uneven")
    with Image.open(photos[0]) as photo:
        for number, side in enumerate((256, 32, 48, 32, 64, 32)):
            photo.convert("RGB").crop((0, 0, side, side)).save(folder / f"{number}.png")
    (folder / "0-none.png").write_bytes(b"no picture")
    (folder / "3-none.png").write_bytes(b"no picture")
    return folder


NAMES = ["0-none", "0", "1", "2", "3-none", "3", "4", "5"]


@pytest.mark.parametrize("jobs", [(), ("--jobs", 3), ("--jobs", 2, "--threads", 2)])
def test_rows_come_in_the_order_of_the_inputs(start, base, uneven, tmp_path, jobs):
    words = ("encode", uneven, "-o", tmp_path / "out", "--base", base, *jobs)
    done = start(*words, "--format", "json").wait()
    assert [Path(row["input"]).stem for row in done.rows] == NAMES
    assert [set(row) == {"input", "output", "error"} for row in done.rows] == [
        name.endswith("none") for name in NAMES
    ]
    assert (done.code, done.sums["done"], done.sums["failed"]) == (1, 6, 2)
    assert [re.search(r"[03]-none", line)[0] for line in done.errors[:-1]] == ["0-none", "3-none"]


@pytest.mark.parametrize("jobs", [(), ("--jobs", 2)])
def test_lines_of_text_and_skipped_rows_come_so_too(start, base, uneven, tmp_path, jobs):
    words = ("encode", uneven, "-o", tmp_path / "out", "--base", base, *jobs)
    text = start(*words).wait()
    rows = [line.split()[0] for line in text.out.splitlines()[1:]]
    assert [Path(row).stem for row in rows] == [name for name in NAMES if "none" not in name]
    assert text.errors[-1] == "mpa: 8 inputs: 6 done, 0 skipped, 2 failed"
    again = start(*words, "--resume", "--format", "json").wait()
    assert [Path(row["input"]).stem for row in again.rows] == NAMES
    assert (again.sums["skipped"], again.sums["failed"]) == (6, 2)


def test_what_waits_for_its_turn_is_counted_when_the_run_ends(tmp_path, capsys):
    report = OutcomePrinter(job_list_of(4, tmp_path), as_json=True)
    for place in (2, 0, 3):
        report.add(JobOutcome("done", {"input": str(place), "output": "x"}), place)
    first = capsys.readouterr().out
    assert '"0"' in first
    assert '"2"' not in first
    report.close(signalled="SIGTERM")
    *rows, sums = map(json.loads, (first + capsys.readouterr().out).splitlines())
    assert [row["input"] for row in rows] == ["0", "2", "3"]
    assert (sums["done"], sums["total"], sums["stopped"]) == (3, 4, "SIGTERM")


TASK = """
import os, warnings
from dataclasses import dataclass
from mpa_core.errors import DamageWarning

@dataclass(frozen=True)
class Noisy:
    def start(self):
        print("talk from Python")
        os.write(1, b"talk from below\\n")
        warnings.warn("met by everybody", stacklevel=1)
        return self

    def pixels(self, job):
        return 1

    def difference(self, job):
        return None

    def make(self, job, step):
        import torch
        warnings.warn(DamageWarning(f"of {job.source} alone"), stacklevel=1)
        return b"x", {"threads": torch.get_num_threads()}
"""


def never_ends(place: int, name: str, done: int, steps: int) -> bool:
    return True


def test_workers_talk_on_stderr_and_warn_once(tmp_path, monkeypatch, capfd):
    (tmp_path / "noisy_task.py").write_text(TASK)
    monkeypatch.syspath_prepend(tmp_path)
    from noisy_task import Noisy

    job_list = job_list_of(4, tmp_path)
    job_list.output = str(tmp_path)
    rules = Rules(force=False, resume=False, make_folders=False)
    jobs = iter(list(enumerate(job_list)))
    with pytest.warns(UserWarning) as caught:
        outcomes = list(workers.work_in_processes(Noisy(), jobs, rules, Pool(2, 3), never_ends))
    assert sorted(place for place, _ in outcomes) == [0, 1, 2, 3]
    assert all(outcome.row["threads"] == 3 for _, outcome in outcomes)
    texts = sorted(f"{warning.category.__name__}: {warning.message}" for warning in caught)
    single = [f"DamageWarning: of {tmp_path}/{number}.png alone" for number in range(4)]
    assert texts == [*single, "UserWarning: met by everybody"]
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("talk from Python") == err.count("talk from below") == 2


def test_a_script_without_a_guard_starts_its_workers_once(base, picture, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from mpa_core.cli.main import main\n"
        "print('once')\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "in" / name).write_bytes(picture.read_bytes())
    words = ("encode", tmp_path / "in", "-o", tmp_path / "out", "--base", base, "--jobs", 1)
    done = subprocess.run(
        [sys.executable, str(script), *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("once") == 1
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"a.mpa", "b.mpa"}


def test_a_process_that_may_have_no_children_does_the_work_itself(base, picture, tmp_path):
    """As a worker of a pool of the user's may not."""
    script = tmp_path / "pool.py"
    script.write_text(
        "import multiprocessing, os, sys\n"
        "from mpa_core.cli.main import main\n"
        "if __name__ == '__main__':\n"
        "    for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'):\n"
        "        os.environ.pop(name, None)\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        sys.exit(pool.apply(main, (sys.argv[1:],)))\n"
    )
    other = tmp_path / "other.png"
    other.write_bytes(picture.read_bytes())
    words = ("encode", picture, other, "-o", tmp_path / "out", "--base", base)
    done = subprocess.run(
        [sys.executable, str(script), *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 2
