"""Every documented command line is one the parser takes, and every option is described."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

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


def test_options_of_encode_and_decode_are_described(mpa):
    text = CLI.read_text("utf-8")
    for command in ("encode", "decode"):
        options = set(re.findall(r"--[a-z][a-z-]+", mpa(command, "--help").out)) - {"--help"}
        assert len(options) >= 5
        assert {option for option in options if option not in text} == set()


def test_every_command_is_described(mpa):
    listed = re.findall(r"^    ([a-z-]+)\b", mpa("--help").out, re.MULTILINE)
    assert "encode" in listed
    text = CLI.read_text("utf-8")
    assert [name for name in listed if f"`mpa {name}" not in text] == []
