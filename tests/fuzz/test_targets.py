"""The targets of ``examples/fuzz``, a little of each: the campaigns run them by the million."""

from __future__ import annotations

import importlib
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from campaign import TARGETS, BrokenPromiseError, Memory, Watch, run_case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

EXAMPLES = {"container": 1500, "coder": 150, "decode": 150, "checkpoint": 60, "image": 400}
WATCH, MEMORY = Watch(), Memory()


@pytest.fixture(scope="module", params=TARGETS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def target(name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    threads, pixels = torch.get_num_threads(), Image.MAX_IMAGE_PIXELS
    yield importlib.import_module(f"target_{name}").Target(tmp_path_factory.mktemp("target"))
    torch.set_num_threads(threads)
    Image.MAX_IMAGE_PIXELS = pixels


def test_promises_hold(name: str, target):
    outcomes = set()

    @settings(
        max_examples=EXAMPLES[name],
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**64 - 1))
    def each(seed: int) -> None:
        outcome, _ = run_case(target, target.make(random.Random(seed)), WATCH, MEMORY)
        outcomes.add(outcome.split()[0].strip(",:"))

    each()
    # Mutations that are all refused, or all accepted, would test nothing.
    assert outcomes == {"accepted", "refused"}


class Misbehaving:
    """A target that does what its case says."""

    limit_s = 1.0

    def prepare(self, case: bytes) -> bytes:
        return case

    def run(self, case: bytes) -> str:
        exec(case, {})  # our own words, below
        return "accepted"

    def allowance(self, _: bytes) -> int:
        return 2**24


@pytest.mark.parametrize(
    ("deed", "seen"),
    [
        ("[][0]", "IndexError"),
        ("from mpa_core.errors import ImageError; raise ImageError('')", "text of"),
        ("open('x', 'w').close()", "open 'x' to write"),
        ("import os; os.mkdir('x')", "os.mkdir"),
        ("import subprocess; subprocess.run(['true'])", "subprocess.Popen"),
        ("x = b'1' * 2**26; y = x + x", "allowed were"),
    ],
)
def test_a_broken_promise_is_seen(deed: str, seen: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "allowed" in seen and not MEMORY.known:
        pytest.skip("this system does not tell a process its peak")
    with pytest.raises(BrokenPromiseError, match=seen):
        run_case(Misbehaving(), deed.encode(), WATCH, MEMORY)
    WATCH.seen.clear()


def test_the_command(root: Path, tmp_path: Path):
    done = subprocess.run(
        [
            *(sys.executable, root / "examples" / "fuzz" / "campaign.py", "container"),
            *("--cases", "200", "--keep", tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("container: 200 cases, seed 0\n  accepted ")
    assert "refused: BitstreamError" in done.stdout
    assert list(tmp_path.iterdir()) == []
