"""Every documented command line is one the parser takes, and every option is described."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from cli_help import all_helps, options

from mpa_core.cli.main import build_parser

ROOT = Path(__file__).resolve().parents[2]
CLI = ROOT / "docs" / "cli.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def commands() -> list[str]:
    found = [
        line
        for page in PAGES
        for block in BLOCK.findall(page.read_text("utf-8"))
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return [line for line in found if line.startswith("mpa ")]


@pytest.mark.parametrize("line", commands())
def test_documented_commands_parse(line):
    words = shlex.split(re.split(r" [<>|] ", line)[0])[1:]
    assert callable(build_parser().parse_args(words).run)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_in_the_text_exist(page):
    known = {option for shown in all_helps().values() for option in options(shown)} | {"--help"}
    spans = re.findall(r"`((?:--|mpa )[^`\n]+)`", page.read_text("utf-8"))
    named = {option for span in spans for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", span)}
    assert named - known == set()


def test_options_of_encode_and_decode_are_described():
    text = CLI.read_text("utf-8")
    for command in ("encode", "decode"):
        shown = options(all_helps()[command,])
        assert len(shown) >= 5
        assert [option for option in shown if option not in text] == []


def test_every_command_is_described():
    text = CLI.read_text("utf-8")
    assert [words[0] for words in all_helps() if words and f"`mpa {words[0]}" not in text] == []
