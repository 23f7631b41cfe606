"""The help of every command, as its user sees it."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from functools import cache
from io import StringIO

from mpa_core.cli.main import build_parser


@cache
def all_helps() -> dict[tuple[str, ...], str]:
    """Words behind ``mpa`` -> help; the words are none for ``mpa --help``."""
    found: dict[tuple[str, ...], str] = {}
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        words = waiting.pop()
        with redirect_stdout(StringIO()) as shown:
            try:
                build_parser().parse_args([*words, "--help"])
            except SystemExit as ended:
                assert ended.code == 0
        found[words] = shown.getvalue()
        below = re.findall(r"^    ([a-z][a-z-]*)\b", found[words], re.MULTILINE)
        waiting += [(*words, name) for name in below]
    assert {("encode",), ("train", "path"), ("hub", "push")} <= found.keys()
    return found


def options(shown: str) -> list[str]:
    """Long options that a help describes, but for ``--help``."""
    found = re.findall(r"^  (?:-\w[^-\n]*)?(--[a-z][a-z-]*)", shown, re.MULTILINE)
    return [option for option in found if option != "--help"]
