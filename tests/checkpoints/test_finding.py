"""How a checkpoint is found: bundled ids, folders, and what is neither."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from folder_tools import one_line

from mpa_core import checkpoints
from mpa_core.checkpoints import locate
from mpa_core.errors import AmbiguousNameWarning, CheckpointError


def test_bundled_ids_and_folders(tmp_path, monkeypatch, base):
    packages = tmp_path / "package"
    (packages / "weights").mkdir(parents=True)
    base.rename(packages / "weights" / "tiny-one")
    (packages / "weights" / "not-a-base").mkdir()
    monkeypatch.setattr(locate.resources, "files", lambda name: packages)
    assert checkpoints.bundled_bases() == {"tiny-one": packages / "weights" / "tiny-one"}
    assert checkpoints.load_base("tiny-one").name == "org/tiny"
    monkeypatch.chdir(tmp_path)
    Path("tiny-one").mkdir()  # holds nothing, so nothing is ambiguous
    assert checkpoints.resolve("tiny-one") == packages / "weights" / "tiny-one"
    with pytest.raises(CheckpointError) as error:
        checkpoints.resolve("tiny-two")
    assert "tiny-one" in one_line(error)


def test_a_bare_name_is_never_a_folder(tmp_path, monkeypatch, base):
    monkeypatch.setattr(locate, "bundled_bases", lambda: {"base": Path("/elsewhere")})
    monkeypatch.chdir(base.parent)
    with pytest.warns(AmbiguousNameWarning, match=r"write \./base for the folder"):
        assert checkpoints.resolve("base") == Path("/elsewhere")
    base.rename("mine")
    with pytest.raises(CheckpointError, match=r"no bundled base.*write \./mine"):
        checkpoints.resolve("mine")
    for said in ("./mine", "mine/", Path("mine"), str(Path("mine").absolute())):
        assert checkpoints.load_base(said).name == "org/tiny"


@pytest.mark.parametrize(
    ("source", "bare"),
    [
        *((name, True) for name in ("a", "d:a", "a=b")),
        *((path, False) for path in ("./a", "a/", "a/b", "a\\b", ".\\a", "~", ".", Path("a"))),
    ],
)
def test_what_is_a_bare_name(source, bare):
    assert checkpoints.is_bare(source) is bare


def test_what_cannot_be_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as error:
        checkpoints.resolve("org/model")
    assert "hf download org/model" in one_line(error)
    Path("empty").mkdir()
    with pytest.raises(CheckpointError, match=r"empty has neither config\.json nor"):
        checkpoints.resolve("./empty")
    Path("file.pth.tar").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"mpa import-official file\.pth\.tar"):
        checkpoints.load_base("file.pth.tar")
    with pytest.raises(CheckpointError, match="is not a folder"):
        checkpoints.load_path("nothing-here")


def test_describing_a_folder_needs_no_torch(base, saved_path):
    code = (
        "import sys; from pathlib import Path; from mpa_core import checkpoints; "
        f"print(checkpoints.read_base_meta(Path({str(base)!r})).name, "
        f"checkpoints.read_path_meta(Path({str(saved_path)!r})).path_type, "
        "len(checkpoints.bundled_bases()) >= 0); "
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("org/tiny wide")
