"""A bare name is what is installed, a folder is said as a path: in every command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from mpa_core import MPACodec
from mpa_core.bitstream.container import unpack
from mpa_core.checkpoints import bundled_base_of
from mpa_core.errors import CheckpointError, PathNotFoundError

WARNING = "mpa: warning: 'mpa-small' is the one that is installed, not the folder mpa-small here"


@pytest.fixture
def beside(base, path_folder, picture, tmp_path, monkeypatch) -> Path:
    """The current folder, with folders of other weights that are called as what is installed."""
    shutil.copytree(base, tmp_path / "mpa-small")
    shutil.copytree(path_folder, tmp_path / "cls")
    shutil.copytree(base, tmp_path / "mine")
    shutil.copy(picture, tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fingerprint(file: Path) -> str:
    return unpack(file.read_bytes()).fingerprint.hex()


def test_a_folder_in_the_way_changes_no_file(mpa, beside):
    done = mpa("encode", "a.png", "-o", "a.mpa")
    assert done.code == 0
    assert [line for line in done.errors if line.startswith(WARNING)] == done.errors
    assert len(done.errors) == 1
    assert bundled_base_of(bytes.fromhex(fingerprint(beside / "a.mpa"))) == "mpa-small"
    for words in (["--path", "cls"], ["--mix", "cls=0.5"], []):
        assert mpa("decode", "a.mpa", "-o", "out.png", "--force", *words).code == 0
    said = mpa("encode", "a.png", "-o", "b.mpa", "--base", "./mpa-small")
    assert (said.code, said.errors) == (0, [])
    assert fingerprint(beside / "b.mpa") != fingerprint(beside / "a.mpa")
    words = ["decode", "b.mpa", "-o", "b.png", "--base", "./mpa-small", "--load", "./cls"]
    assert mpa(*words, "--path", "cls").code == 0


def test_an_empty_folder_in_the_way(mpa, beside):
    for name in ("mpa-small", "cls"):
        shutil.rmtree(beside / name)
        (beside / name).mkdir()
    done = mpa("encode", "a.png", "-o", "a.mpa")
    assert (done.code, done.errors) == (0, [])
    done = mpa("decode", "a.mpa", "-o", "a.out.png", "--path", "cls")
    assert (done.code, done.errors) == (0, [])


@pytest.mark.parametrize(
    "words",
    [
        "encode a.png -o a.mpa --base mine",
        "exact mine out",
        "eval . --out out --base mine --qualities 3",
        "train base --from mine --data . --out run --steps 1",
        "train path mse --base mine --data . --out run --steps 1",
    ],
)
def test_a_folder_without_its_path_is_refused_with_it(mpa, beside, words):
    done = mpa(*words.split())
    assert done.code in (1, 2)
    assert "write ./mine" in done.errors[-1]


def test_a_path_folder_without_its_path_is_refused_with_it(mpa, beside):
    shutil.move(beside / "cls", beside / "readable")
    assert mpa("encode", "a.png", "-o", "a.mpa", "--base", "./mine").code == 0
    words = ["decode", "a.mpa", "-o", "b.png", "--base", "./mine", "--path", "cls", "--load"]
    done = mpa(*words, "readable")
    assert done.code == 1 and "write ./readable" in done.errors[-1]
    assert mpa(*words, "./readable").code == 0
    for name in ("./mine", "./gone", "./"):
        done = mpa(*words, name, "--force")
        assert done.code == 1 and "path_config.json" in done.errors[-1]
        assert "no task path" not in done.err


def test_a_folder_without_a_path_is_no_name_that_is_not_installed(mpa, beside):
    for name in ("empty", "photos"):
        (beside / name).mkdir()
    with Image.open("a.png") as small:
        small.resize((96, 80)).save("photos/a.png")
    words = "train path mse --base ./mine --data photos --out run --steps 1 --from ./empty"
    done = mpa(*words.split(), "--set", "loss.perceptual=null", "--set", "data.crop=64")
    assert done.code == 1
    said = "empty has no path_config.json, expected a path folder with path_config.json; give the"
    assert said in done.errors[-1]
    codec = MPACodec.from_pretrained("./mine")
    for name in ("./empty", Path("empty")):
        with pytest.raises(CheckpointError, match=r"empty has no path_config\.json"):
            codec.load_path(name)
    with pytest.raises(PathNotFoundError, match=r"no task path 'empty' .*write \./empty"):
        codec.load_path("empty")


def test_a_folder_without_a_path_ends_a_run_over_many_files(mpa, beside, encoded):
    """Without a base, paths are loaded with the first file."""
    assert mpa("encode", "a.png", "-o", "a.mpa").code == 0
    shutil.copy("a.mpa", "b.mpa")
    done = mpa("decode", "a.mpa", "b.mpa", "-o", "out/", "--load", "./mine")
    errors = [line for line in done.errors if "error" in line]
    assert done.code == 1
    assert len(errors) == 1 and "path_config.json" in errors[0]
