"""The site builds without a warning; its reference has every public name, command and option."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest
from public_names import public_names

from mpa_core.cli.main import build_parser

mkdocstrings = pytest.importorskip("mkdocstrings", reason="the site needs mpa-core[docs]")


@pytest.fixture(scope="module")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, by the command of `make docs`."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    done = subprocess.run(build, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_public_name_is_described_and_listed(built: Path):
    with (built / "objects.inv").open("rb") as file:
        described = mkdocstrings.Inventory.parse_sphinx(file)
    listed = (built / "reference" / "index.html").read_text(encoding="utf-8")
    for module, names in public_names().items():
        assert f"<code>{module}</code>" in listed
        for name in names:
            assert f"{module}.{name}" in described, f"{module}.{name} is on no page"
            assert re.search(rf'<a [^>]*href="[^"]+"[^>]*><code>{name}</code></a>', listed), name


def help_of(*words: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_every_command_and_option_is_in_the_reference(built: Path, capsys):
    page = (built / "reference" / "cli" / "index.html").read_text(encoding="utf-8")
    heading = r"<h2[^>]*>([a-z -]+)<.*?</h2>(.*?)(?=<h2|</article>)"
    sections = dict(re.findall(heading, html.unescape(page), re.S))
    found: list[tuple[str, ...]] = []
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        words = waiting.pop()
        shown = help_of(*words, capsys=capsys)
        section = sections[" ".join(("mpa", *words))]
        for option in re.findall(r"^  (?:-\w[^-\n]*)?(--[a-z][a-z-]*)", shown, re.M):
            row = re.search(rf"<code>[^<]*{option}\b[^<]*</code></td>\s*<td>(.*?)</td>", section)
            assert option == "--help" or (row and row[1]), f"{words} {option}"
        waiting += [(*words, name) for name in re.findall(r"^    ([a-z][a-z-]*)\b", shown, re.M)]
        found.append(words)
    assert {("encode",), ("train", "path"), ("hub", "push")} <= set(found)
    assert len(found) == len(sections)
