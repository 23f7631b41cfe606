"""Fills the page ``reference/index.md``: every public name, with a link to its description.

A hook of MkDocs. Which names are public is said by ``docs/spec/plugin-api.md``. A name that no page
of the reference describes has no place to link to, which ends a strict build.
"""

from __future__ import annotations

import re
from pathlib import Path

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.pages import Page

PAGE = "reference/index.md"
SPECIFICATION = "spec/plugin-api.md"
ROW = re.compile(r"^\| `(mpa_core[\w.]*)` \| (.*) \|$", re.MULTILINE)
Member = griffe.Object | griffe.Alias


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: object) -> str:
    """Add a table for each public module to the page about them."""
    if page.file.src_uri != PAGE:
        return markdown
    docs = Path(config.docs_dir)
    package = griffe.load("mpa_core", search_paths=[docs.parent])
    assert isinstance(package, griffe.Module)
    sections = [
        section(module, public_names(package, module, said))
        for module, said in ROW.findall((docs / SPECIFICATION).read_text(encoding="utf-8"))
    ]
    return "\n".join([markdown, *sections])


def public_names(package: griffe.Module, module: str, said: str) -> list[Member]:
    """Return what is public of a module, by the row of the specification about it."""
    found = package.modules_collection[module]
    if said.startswith("all that it lists"):
        names = [str(name) for name in found.exports or ()]
    elif said.startswith("every class"):
        names = list(found.classes)
    else:
        names = re.findall(r"`(\w+)`", said)
    return [found[name] for name in sorted(names, key=str.lower)]


def section(module: str, members: list[Member]) -> str:
    """Return a table of a module's public names."""
    rows = []
    for member in members:
        said = member.docstring.value.splitlines()[0] if member.docstring else ""
        said = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", said).replace("``", "`").replace("|", "&#124;")
        rows.append(f"| [`{member.name}`][{member.canonical_path}] | {said} |")
    return f"## `{module}`\n\n| name | |\n| --- | --- |\n" + "\n".join(rows) + "\n"
