"""Fills the page ``reference/cli.md``, every command and option of ``mpa``, from its parser.

A hook of MkDocs. The texts are those of ``mpa COMMAND --help``.
"""

from __future__ import annotations

import argparse
import html
import re
from collections.abc import Iterator
from functools import partial

from mkdocs.structure.pages import Page

from mpa_core.cli.main import build_parser

PAGE = "reference/cli.md"


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Add a section for each command to the page about them."""
    if page.file.src_uri != PAGE:
        return markdown
    parser = build_parser()
    sections = [section(command, said) for command, said in commands(parser, parser.description)]
    return "\n".join([markdown, *sections])


def commands(
    parser: argparse.ArgumentParser, said: str | None
) -> Iterator[tuple[argparse.ArgumentParser, str | None]]:
    """Yield the command and all below it, each with what the command above says of it."""
    yield parser, said
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {listed.dest: listed.help for listed in action._choices_actions}
            for name, command in action.choices.items():
                yield from commands(command, helps[name])


def section(parser: argparse.ArgumentParser, said: str | None) -> str:
    """Return what there is to say of one command, without those below it."""
    parser.formatter_class = partial(argparse.HelpFormatter, width=88)
    if hasattr(parser, "color"):  # from Python 3.14 on, where stdout is a terminal
        parser.color = False
    parts = [f"## {parser.prog}\n"]
    if said:
        parts.append(
            f"{as_markdown(said[0].upper() + said[1:])}{'' if said.endswith('.') else '.'}\n"
        )
    parts.append(f"```text\n{parser.format_usage().strip()}\n```\n")
    for group in parser._action_groups:
        rows = [row(action) for action in group._group_actions if is_listed(action)]
        if rows:
            title = (group.title or "").removesuffix(":")
            parts.append(f"| {as_markdown(title)} | |\n| --- | --- |\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def is_listed(action: argparse.Action) -> bool:
    """Whether it is an argument or an option of the command's own, rather than its commands."""
    return not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)


def row(action: argparse.Action) -> str:
    """Return an argument or option and its help as a row of a table."""
    name = ", ".join(action.option_strings)
    called = " ".join(part for part in (name, value(action)) if part)
    said = (action.help or "") % vars(action)
    return f"| <code>{html.escape(called).replace('|', '&#124;')}</code> | {as_markdown(said)} |"


def value(action: argparse.Action) -> str:
    """Return how the value of an argument or option is written, empty where it takes none."""
    if action.nargs == 0:
        return ""
    choices = "|".join(map(str, action.choices)) if action.choices else ""
    plain = action.dest.upper() if action.option_strings else action.dest
    name = action.metavar or choices or plain
    assert isinstance(name, str)
    several = f"{name} …" if action.nargs in ("*", "+") else name
    return f"[{several}]" if action.nargs in ("*", "?") else several


def as_markdown(text: str) -> str:
    """Return plain text as Markdown that shows it, within a cell of a table, too."""
    marked = re.sub(r"([\\`*_\[\]])", r"\\\1", html.escape(" ".join(text.split()), quote=False))
    return marked.replace("|", "&#124;")
