"""Writes the page ``reference/index.md``: every public name, with a link to where it is described.

A hook of MkDocs. Which names are public is said by ``docs/spec/plugin-api.md``. A name that no page
of the reference describes has no place to link to, which ends a strict build.
"""

from __future__ import annotations

import re
from pathlib import Path

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

SPECIFICATION = "spec/plugin-api.md"
ROW = re.compile(r"^\| `(mpa_core[\w.]*)` \| (.*) \|$", re.MULTILINE)
Member = griffe.Object | griffe.Alias
INTRODUCTION = f"""# Public names

All names that [the plugin API](../{SPECIFICATION}) calls public: they change on purpose only, and
with a word in the list of changes. Each is described under its link.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page to those that are built."""
    specification = Path(config.docs_dir, SPECIFICATION).read_text(encoding="utf-8")
    root = Path(config.docs_dir).parent
    package = griffe.load("mpa_core", search_paths=[root])
    assert isinstance(package, griffe.Module)
    sections = [
        section(module, public_names(package, module, said))
        for module, said in ROW.findall(specification)
    ]
    content = "\n".join([INTRODUCTION, *sections])
    files.append(File.generated(config, "reference/index.md", content=content))
    return files


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
