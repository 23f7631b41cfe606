"""The documentation does what it says: snippets run, links lead somewhere, errors are listed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from forks import COMMANDS, ForkServer, fork_server
from hub_server import point_at, running_hub
from huggingface_hub.utils import disable_progress_bars
from PIL import Image
from ruamel.yaml import YAML
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from mpa_core import errors
from mpa_core.checkpoints.sources import is_bare

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
# Followed step by step in a test of its own.
FOLLOWED = {ROOT / "docs" / "write-a-plugin.md": ROOT / "tests" / "plugins" / "test_docs.py"}
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?!https?://|mailto:|#)([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def run_console(example: Example) -> None:
    """Run the lines of a ``console`` block that start with ``$``; each must exit with 0."""
    environment = dict(os.environ, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    lines = str(example.parsed).replace("\\\n", " ").splitlines()
    commands = [line[2:] for line in lines if line.startswith("$ ")]
    assert commands, "a console block without a line that starts with '$ '"
    for command in commands:
        program, *words = shlex.split(command)
        if program == "mpa":
            forks, folder = example.namespace["forks"], example.namespace["outputs"]
            result = forks.start(folder, words=words, env=environment, cwd=str(Path.cwd())).wait()
            code, errors = result.code, result.err
        else:
            done = subprocess.run(
                command, shell=True, env=environment, capture_output=True, text=True, timeout=300
            )
            code, errors = done.returncode, done.stderr
        assert code == 0, f"{command}: exit {code}: {errors}"


SNIPPETS = Sybil(
    parsers=[PythonCodeBlockParser(), CodeBlockParser("console", run_console), SkipParser()]
)


def pages_with_snippets() -> list[Path]:
    return [
        page for page in PAGES if page not in FOLLOWED and list(SNIPPETS.parse(page).examples())
    ]


@pytest.fixture
def hub_of_the_reader(tmp_path_factory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Hub on loopback, where the reader is ``me``."""
    with running_hub() as hub:
        hub.tokens["hf_mine"] = {"me"}
        point_at(hub, monkeypatch, tmp_path_factory.mktemp("cache"), "hf_mine")
        disable_progress_bars()
        yield


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkServer]:
    with fork_server(COMMANDS, env=dict(os.environ)) as server:
        yield server


@pytest.mark.usefixtures("hub_of_the_reader")
@pytest.mark.parametrize("page", pages_with_snippets(), ids=lambda p: str(p.relative_to(ROOT)))
def test_snippets_run(
    page: Path,
    sample: Image.Image,
    forks: ForkServer,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
):
    # The reader's folder: a photo, and nothing else; a small one, which is quickly coded.
    monkeypatch.chdir(tmp_path)
    photo = sample.resize((sample.width // 3, sample.height // 3))
    photo.save("photo.png")
    photo.save("photo.jpg", quality=90)
    document = SNIPPETS.parse(page)
    document.namespace |= {"forks": forks, "outputs": tmp_path_factory.mktemp("outputs")}
    for example in document:
        example.evaluate()


def test_there_are_snippets():
    assert ROOT / "README.md" in pages_with_snippets()
    for page, test in FOLLOWED.items():
        assert page.name in test.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "page",
    [
        *sorted(ROOT.glob("examples/mpa-plugin-*/*.md")),
        *sorted(ROOT.glob("mpa_core/plugins/templates/*.md.in")),
    ],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_what_becomes_a_distribution_of_its_own_links_to_no_file(page: Path):
    """An index shows its README without the files beside it, and it leaves this repository."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    assert [first or second for first, second in LINK.findall(text)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path):
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    targets = [a or b for a, b in LINK.findall(text)]
    missing = [t for t in targets if not (page.parent / t.partition("#")[0]).exists()]
    assert missing == []


def named_checkpoints(page: Path) -> list[str]:
    """What the page's shell commands give as ``NAME=WHERE`` for ``--load`` and ``--paths``."""
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    text = " ".join(blocks).replace("\\\n", " ")
    given = re.findall(r"--(?:load|paths)[ =](\S+)", text)
    return [where for item in given for _, _, where in [item.partition("=")] if where]


def test_commands_write_a_folder_so_that_it_is_none_of_the_installed_names():
    found = {
        where.partition(",")[0]
        for page in [*PAGES, *ROOT.glob("examples/mpa-plugin-*/*.md")]
        for where in named_checkpoints(page)
    }
    assert found
    assert [where for where in found if is_bare(where) and ":" not in where] == []


def test_every_error_is_documented():
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, (errors.MPAError, UserWarning))
    }
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## `(\w+)`$", text, re.MULTILINE)
    assert set(headings) == classes
    assert len(headings) == len(classes)


def test_images_have_words_for_who_does_not_see_them():
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    images = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", pages)
    assert images and [target for words, target in images if not words.strip()] == []
    drawings = [*(ROOT / "docs").rglob("*.svg")]
    assert drawings
    for drawing in drawings:
        svg = ElementTree.parse(drawing).getroot()
        assert svg.get("role") == "img"
        for part in ("title", "desc"):
            assert len((svg.findtext(f"{{http://www.w3.org/2000/svg}}{part}") or "").split()) > 2


def test_every_page_is_in_the_navigation():
    settings = YAML(typ="safe").load(ROOT / "mkdocs.yml")
    named = re.findall(r"[\w/-]+\.md", str(settings["nav"]))
    assert len(named) == len(set(named))
    assert {ROOT / "docs" / name for name in named} == {*(ROOT / "docs").rglob("*.md")}


def test_make_commands_of_the_readme_exist():
    make = shutil.which("make")
    assert make
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^make (\w+)$", text, re.MULTILINE))
    assert {"demo", "test"} <= targets
    for target in targets:
        done = subprocess.run([make, "--dry-run", target], cwd=ROOT, capture_output=True)
        assert done.returncode == 0, done.stderr
