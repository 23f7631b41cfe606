"""``mpa encode --reader``: the paths that a file is made for, and how they are loaded."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from mpa_core import MPACodec
from mpa_core.cli.readers import asked_readers, weights


@pytest.fixture
def photo(turned_piece) -> Path:
    """64x64 pixels."""
    return turned_piece((120, 40, 184, 104))


@pytest.fixture
def expected(photo) -> Callable[..., bytes]:
    """The file of the API, with a path loaded from a folder."""
    from PIL import Image

    def encode(base: Path | str, loaded: dict[str, Path | str], **words) -> bytes:
        codec = MPACodec.from_pretrained(base)
        for name, source in loaded.items():
            codec.load_path(source, name)
        with Image.open(photo) as picture:
            return codec.encode(picture, 3, effort=1, **words)

    return encode


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cls", {"cls": 1}),
        ("cls,seg", {"cls": 1, "seg": 1}),
        ("main=1, cls = 0.5", {"main": 1, "cls": 0.5}),
        ("cls,main=2e3", {"cls": 1, "main": 2000}),
        ("dist:det=3", {"dist:det": 3}),
        ("./runs/cls=0.5,org/seg@v1", {"./runs/cls": 0.5, "org/seg@v1": 1}),
    ],
)
def test_weights(text, found):
    assert weights(text) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is no path"),
        ("cls=0", "'cls=0' is no path with a weight above 0"),
        ("cls=-1", "'cls=-1' is no path"),
        ("cls=inf", "'cls=inf' is no path"),
        ("cls=nan", "'cls=nan' is no path"),
        ("main=1,cls=much", "'cls=much' in 'main=1,cls=much' is no path"),
        ("cls,", "'' in 'cls,' is no path"),
        ("=1", "'=1' is no path"),
        ("cls,cls=2", "cls comes twice in 'cls,cls=2'"),
    ],
)
def test_what_is_no_reader(text, said, encode, tmp_path):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        weights(text)
    assert str(caught.value).startswith(said)
    done = encode(f"--reader={text}", "--effort", 1)
    assert done.code == 2
    assert f"argument --reader: {said}" in done.errors[-1]
    assert not (tmp_path / "a.mpa").exists()


def test_installed_paths_load_by_themselves(encode, expected, tmp_path):
    words = ("-q", 3, "--effort", 1, "--reader", "main=1,cls=0.5")
    assert encode(*words).code == 0
    reader = {"main": 1, "cls": 0.5}
    assert (tmp_path / "a.mpa").read_bytes() == expected("mpa-small", {"cls": "cls"}, reader=reader)


@pytest.mark.parametrize("words", ["--reader FOLDER", "--reader mine --load mine=FOLDER"])
def test_a_path_of_a_folder(encode, expected, base, path_folder, tmp_path, words):
    words = words.replace("FOLDER", str(path_folder)).split()
    done = encode("--base", base, "-q", 3, "--effort", 1, *words)
    assert done.code == 0, done.err
    found = (tmp_path / "a.mpa").read_bytes()
    assert found == expected(base, {"other": path_folder}, reader="other")


def test_names_of_distributions_are_those_of_their_paths():
    reader, load = asked_readers({"main": 1, "mpa-core:cls": 2}, [])
    assert (reader, load) == ({"main": 1, "cls": 2}, ("mpa-core:cls",))
    reader, load = asked_readers({"mpa-core:cls": 2}, ["mine=mpa-core:cls"])
    assert (reader, load) == ({"mine": 2}, ("mine=mpa-core:cls",))
    assert asked_readers(None, ["mse"]) == (None, ("mse",))


def test_workers_load_them_too(start, base, path_folder, picture, tmp_path):
    words = ("encode", picture, "-o", tmp_path / "a.mpa", "--base", base, "--jobs", 1)
    done = start(*words, "--effort", 1, "--reader", path_folder).wait()
    assert done.code == 0, done.err
    assert (tmp_path / "a.mpa").is_file()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--reader cls", 1, "reader is given, but effort is 0"),
        ("--reader nothing --effort 1", 1, "no task path 'nothing' is installed"),
        ("--reader none:cls --effort 1", 1, "none:cls"),
        ("--reader cls,mpa-core:cls --effort 1", 2, "--reader: cls and mpa-core:cls mean one path"),
        ("--reader cls,FOLDER --effort 1", 2, "is called 'cls', as another reader is; load it"),
        ("--reader FOLDER --effort 1", 1, "mpa-small"),  # it is for another base
    ],
)
def test_what_cannot_be_loaded(encode, path_folder, tmp_path, words, code, said):
    done = encode(*words.replace("FOLDER", str(path_folder)).split())
    assert (done.code, len(done.errors)) == (code, 1)
    assert said in done.errors[0]
    assert not (tmp_path / "a.mpa").exists()
