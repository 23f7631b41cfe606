"""How a checkpoint is found: bundled ids, folders, and what is neither."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from folder_tools import one_line

from mpa_core import checkpoints
from mpa_core.checkpoints import BASE, bundled, path_on, resolve, sources
from mpa_core.checkpoints.sources import Source, source_of
from mpa_core.errors import AmbiguousNameWarning, CheckpointError, HubError


def test_bundled_ids_and_folders(tmp_path, monkeypatch, base):
    packages = tmp_path / "package"
    (packages / "weights").mkdir(parents=True)
    base.rename(packages / "weights" / "tiny-one")
    (packages / "weights" / "not-a-base").mkdir()
    monkeypatch.setattr(bundled.resources, "files", lambda name: packages)
    assert checkpoints.bundled_bases() == {"tiny-one": packages / "weights" / "tiny-one"}
    assert checkpoints.load_base("tiny-one").name == "org/tiny"
    monkeypatch.chdir(tmp_path)
    Path("tiny-one").mkdir()  # holds nothing, so nothing is ambiguous
    assert resolve("tiny-one", BASE) == packages / "weights" / "tiny-one"
    with pytest.raises(CheckpointError) as error:
        resolve("tiny-two", BASE)
    assert "tiny-one" in one_line(error)


def test_a_bare_name_is_never_a_folder(tmp_path, monkeypatch, base):
    monkeypatch.setattr(sources, "bundled_bases", lambda: {"base": Path("/elsewhere")})
    monkeypatch.chdir(base.parent)
    with pytest.warns(AmbiguousNameWarning, match=r"write \./base for the folder"):
        assert resolve("base", BASE) == Path("/elsewhere")
    base.rename("mine")
    with pytest.raises(CheckpointError, match=r"no bundled base.*write \./mine"):
        resolve("mine", BASE)
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


@pytest.mark.parametrize(
    ("said", "source"),
    [
        ("mpa-small", Source("name", "mpa-small")),
        ("dist:cls", Source("name", "dist:cls")),
        ("./org/repo", Source("folder", "./org/repo")),
        (Path("org/repo"), Source("folder", "org/repo")),
        ("runs\\one", Source("folder", "runs\\one")),
        ("a/b/c", Source("folder", "a/b/c")),
        ("org/repo", Source("repository", "org/repo")),
        ("org/repo@v1.0", Source("repository", "org/repo", "v1.0")),
        ("org/repo@refs/pr/3", Source("repository", "org/repo", "refs/pr/3")),
        ("here/base", Source("folder", "here/base")),
    ],
)
def test_three_ways_to_say_a_checkpoint(said, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("here", "base").mkdir(parents=True)
    assert source_of(said) == source


def test_what_cannot_be_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind in (BASE, path_on("tiny")):
        with pytest.raises(HubError) as error:
            resolve("org/model@v1", kind)
        assert "no whole copy of org/model@v1 is in the cache" in one_line(error)
    Path("empty").mkdir()
    with pytest.raises(CheckpointError, match=r"empty has no config\.json, expected a base folder"):
        checkpoints.load_base("./empty")
    Path("file.pth.tar").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"mpa import-official file\.pth\.tar"):
        checkpoints.load_base("file.pth.tar")
    with pytest.raises(CheckpointError, match="is no folder that exists"):
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
