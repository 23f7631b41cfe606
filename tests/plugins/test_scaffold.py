"""``mpa plugins new``: what is refused, and that nothing is left behind; tests/test_third_party.py
does the rest."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mpa_core.cli.main import main
from mpa_core.errors import ConfigError, OutputError
from mpa_core.plugins.scaffold import new_plugin


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Det", "'Det' is not a lowercase identifier such as 'det' or 'ocr_2'"),
        ("a b", "not a lowercase identifier"),
        ("class", "not a lowercase identifier"),
        ("main", "'main' is reserved"),
        ("mse", "'mse' is a path of mpa-core itself; choose another name"),
    ],
)
def test_names_that_no_path_can_have(name, said, tmp_path: Path):
    with pytest.raises(ConfigError, match=said):
        new_plugin(name, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "two\nlines", 'a "quoted" one', "a\\b"])
@pytest.mark.parametrize("what", ["summary", "author"])
def test_texts_that_would_break_a_file(what, text, tmp_path: Path):
    with pytest.raises(ConfigError, match=f"{what} is .*, expected one line of text without"):
        new_plugin("det", tmp_path / "new", **{what: text})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_as_it_was(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mpa-plugin-det").mkdir()
    with pytest.raises(OutputError, match="mpa-plugin-det exists and was left as it is"):
        new_plugin("det")
    assert main(["plugins", "new", "det", "--out", "mine"]) == 0
    assert "pip install --editable 'mine[test]'" in capsys.readouterr().out
    assert list((tmp_path / "mpa-plugin-det").iterdir()) == []


def test_every_file_is_what_its_name_says(tmp_path: Path):
    folder = new_plugin(
        "ocr_2", tmp_path / "new", summary="Prices: $5, {x} & 100 %.", author="A & B"
    )
    project = (folder / "pyproject.toml").read_text()
    assert 'name = "mpa-plugin-ocr-2"\n' in project
    assert '[project.entry-points."mpa.plugins"]\nocr_2 = "mpa_plugin_ocr_2"\n' in project
    assert 'dependencies = ["mpa-core>=0.1,<0.2"]\n' in project
    for file in folder.rglob("*.py"):
        ast.parse(file.read_text())
    assert "class Ocr2Path(TaskPath)" in (folder / "mpa_plugin_ocr_2" / "path.py").read_text()
    assert "A & B" in (folder / "LICENSE").read_text()
    assert "${{ matrix.python }}" in (folder / ".github" / "workflows" / "ci.yml").read_text()
    texts = [file.read_text() for file in folder.rglob("*") if file.is_file()]
    assert not any("$" in text.replace("${{ matrix", "").replace("$5", "") for text in texts)
