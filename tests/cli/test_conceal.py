"""``mpa decode --errors`` and ``--max-pixels``, and the profiles of ``mpa encode``."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from mpa_core.bitstream.container import PROFILES, unpack
from mpa_core.cli.main import main


@pytest.fixture(scope="module")
def cut_short(tmp_path_factory, root):
    folder = tmp_path_factory.mktemp("cut")
    whole = folder / "whole.mpa"
    assert main(["encode", str(root / "mpa_core/assets/chelsea.png"), "-o", str(whole)]) == 0
    file = folder / "cut.mpa"
    file.write_bytes(whole.read_bytes()[:-800])
    return file


def test_strict_is_the_default(cut_short, tmp_path, capsys):
    out = tmp_path / "out.png"
    assert main(["decode", str(cut_short), "-o", str(out)]) == 1
    assert "truncated" in capsys.readouterr().err and not out.exists()


def test_conceal(cut_short, tmp_path, capsys):
    out = tmp_path / "out.png"
    command = ["decode", str(cut_short), "-o", str(out), "--errors", "conceal"]
    assert main([*command, "--format", "json"]) == 0
    said = capsys.readouterr()
    entry = json.loads(said.out.splitlines()[0])
    assert "bytes are missing" in entry["damage"][0]
    assert "warning" in said.err and "concealed" in said.err
    with Image.open(out) as picture:
        assert picture.size == (451, 300)


@pytest.mark.parametrize("errors", ["strict", "conceal"])
def test_pictures_larger_than_allowed_are_refused(errors, cut_short, tmp_path, capsys):
    source = cut_short.with_name("whole.mpa")
    command = ["decode", str(source), "-o", str(tmp_path / "out.png"), "--errors", errors]
    assert main([*command, "--max-pixels", str(451 * 300 - 1)]) == 1
    said = capsys.readouterr().err
    assert "451x300" in said and str(451 * 300 - 1) in said
    assert main([*command, "--max-pixels", str(451 * 300)]) == 0
    assert main([*command, "--force", "--max-pixels", "0"]) == 2


@pytest.mark.parametrize("options", [["--profile", "float"], ["--reproducible"]])
def test_encode_options(options, root, tmp_path):
    out = tmp_path / "out.mpa"
    photo = tmp_path / "small.png"
    with Image.open(root / "mpa_core/assets/chelsea.png") as picture:
        picture.crop((0, 0, 128, 64)).save(photo)
    assert main(["encode", str(photo), "-o", str(out), *options]) == 0
    wanted = "float" if "float" in options else "exact"
    assert PROFILES[unpack(out.read_bytes()).profile] == wanted
