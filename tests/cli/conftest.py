"""Tiny bases with random weights, a path for one of them, and the command line in this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mpa_core import MPACodec
from mpa_core.cli.main import main


@dataclass
class Result:
    """What one call of the command did."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def errors(self) -> list[str]:
        return self.err.splitlines()


@pytest.fixture(autouse=True)
def _one_processor_is_meant(monkeypatch):
    """Runs over many files stay in this process, unless a test asks for workers."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def mpa(capsys):
    """Call ``mpa`` with arguments; a usage error of argparse is its exit code."""

    def call(*args: object) -> Result:
        capsys.readouterr()
        try:
            code = main([str(arg) for arg in args])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Result(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def bases(tmp_path_factory) -> dict[str, Path]:
    """Folders of two bases that differ in their random weights alone."""
    root = tmp_path_factory.mktemp("bases")
    for name, seed in (("base", 0), ("other", 1)):
        MPACodec.from_preset("mpa-tiny", seed=seed).save_pretrained(root / name)
    return {name: root / name for name in ("base", "other")}


@pytest.fixture(scope="session")
def base(bases) -> Path:
    return bases["base"]


@pytest.fixture(scope="session")
def path_folder(base, save_cls_path, tmp_path_factory) -> Path:
    """A ``cls`` path with random weights for ``base``."""
    return save_cls_path(base, tmp_path_factory.mktemp("paths") / "cls")


@pytest.fixture(scope="session")
def picture(photos, tmp_path_factory) -> Path:
    """A piece of a real photo, 80x48."""
    file = tmp_path_factory.mktemp("pictures") / "photo.png"
    Image.open(photos[0]).convert("RGB").crop((100, 100, 180, 148)).save(file)
    return file


@pytest.fixture(scope="session")
def encoded(base, picture, tmp_path_factory) -> Path:
    """``picture`` as encoded by ``base`` at quality 3."""
    file = tmp_path_factory.mktemp("encoded") / "photo.mpa"
    file.write_bytes(MPACodec.from_pretrained(base).encode(Image.open(picture), quality=3))
    return file


FORKS = """
import ctypes, json, os, resource, signal, struct, sys
import torch, mpa_core.codec, mpa_core.io.images, mpa_core.cli.batch.run
from mpa_core.cli.main import main

for line in sys.stdin:
    request = json.loads(line)
    if "wait" in request:
        status = os.waitpid(request["wait"], 0)[1]
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        continue
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup would have it ignored
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        flags = os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY
        os.dup2(os.open(request[name], flags), number)
    if request["largest"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest"],) * 2)
    if request["unprivileged"] and sys.platform == "linux":
        # Without its capabilities even root is held to the permissions of its own files.
        header, nothing = struct.pack("Ii", 0x20080522, 0), bytes(24)
        assert ctypes.CDLL(None).capset(header, nothing) == 0
    code = main(request["words"])
    sys.stdout.flush()
    os._exit(code)
"""


class Running:
    """A command line in a process (and process group) of its own."""

    def __init__(self, ask: Callable[..., int], words: list[str], folder: Path, **more: object):
        self._ask = ask
        self.stdout, self.stderr = folder / "stdout", folder / "stderr"
        self.pid = ask(words=words, stdout=str(self.stdout), stderr=str(self.stderr), **more)

    def signal(self, number: int, *, group: bool = False) -> None:
        (os.killpg if group else os.kill)(self.pid, number)

    def wait(self) -> Result:
        """The exit code is the negative number of a signal that ended the process."""
        code = self._ask(wait=self.pid)
        return Result(code, self.stdout.read_text(), self.stderr.read_text())


@pytest.fixture(scope="session")
def _forks() -> Iterator[Callable[..., int]]:
    """A process that has imported torch, and forks one for each command it is given."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:

        def ask(**request: object) -> int:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield ask
        process.stdin.close()


@pytest.fixture
def start(_forks, tmp_path_factory) -> Callable[..., Running]:
    """Start ``mpa`` with arguments in a real process, which can be killed."""

    def call(
        *args: object,
        stdin: object = os.devnull,
        largest: int = 0,
        unprivileged: bool = False,
    ) -> Running:
        folder = tmp_path_factory.mktemp("process")
        limits = {"largest": largest, "unprivileged": unprivileged}
        return Running(_forks, [str(arg) for arg in args], folder, stdin=str(stdin), **limits)

    return call


@pytest.fixture(scope="session")
def tree(photos, tmp_path_factory) -> Path:
    """Pieces of a real photo in folders, with equal names in different ones, and other files."""
    root = tmp_path_factory.mktemp("tree")
    with Image.open(photos[0]) as photo:
        for number, name in enumerate(
            ("x.png", "a/x.png", "a/y.JPG", "b/x.png", "b/deep/er/x.png", "b/-.png")
        ):
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            left = 40 * number
            photo.convert("RGB").crop((left, 60, left + 32, 84)).save(file)
    (root / "b" / "notes.txt").write_text("not a picture")
    return root
