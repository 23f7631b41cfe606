"""The site builds without a warning; its reference has every public name, command and option."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_help import all_helps, options
from public_names import public_names

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


def test_every_command_and_option_is_in_the_reference(built: Path):
    page = (built / "reference" / "cli" / "index.html").read_text(encoding="utf-8")
    heading = r"<h2[^>]*>([a-z -]+)<.*?</h2>(.*?)(?=<h2|</article>)"
    sections = dict(re.findall(heading, html.unescape(page), re.S))
    assert sections.keys() == {" ".join(("mpa", *words)) for words in all_helps()}
    for words, shown in all_helps().items():
        section = sections[" ".join(("mpa", *words))]
        for option in options(shown):
            row = re.search(rf"<code>[^<]*{option}\b[^<]*</code></td>\s*<td>(.*?)</td>", section)
            assert row and row[1], f"{words} {option}"


def test_no_page_shows_markup_of_docstrings(built: Path):
    """Words like ``:class:`` stand before what they mean in docstrings, and on no page."""
    pages = list(built.rglob("index.html"))
    assert len(pages) > 20
    shown = {
        str(page.relative_to(built)): found[:3]
        for page in pages
        if (found := re.findall(r":[a-z]+:(?:<code>|`)[^<`]*", page.read_text("utf-8")))
    }
    assert shown == {}
