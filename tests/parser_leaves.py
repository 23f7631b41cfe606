"""The commands of ``mpa``: the leaves of its parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parser of every command that does something, such as that of ``mpa train base``."""
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for group in groups:
        for child in group.choices.values():
            yield from leaves(child)
    if not groups:
        yield parser


def command_of(leaf: argparse.ArgumentParser) -> str:
    """Return the words of a command, such as ``"train base"``."""
    return leaf.prog.partition(" ")[2]
