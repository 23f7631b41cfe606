"""What docs/spec/plugin-api.md calls public."""

from __future__ import annotations

import re
from pathlib import Path

import mpa_core
from mpa_core import errors, tasks, testing

SPECIFICATION = (Path(__file__).resolve().parent.parent / "docs/spec/plugin-api.md").read_text(
    encoding="utf-8"
)


def documented(table: str) -> dict[str, list[str]]:
    """First column -> names in the second, of the table with this head."""
    _, _, rows = SPECIFICATION.partition(f"| {table} |\n")
    lines = rows.partition("\n\n")[0].splitlines()[1:]
    cells = [line.strip("|").split("|") for line in lines]
    return {first.strip(): re.findall(r"`(\w+)`", second) for first, second in cells}


def public_names() -> dict[str, list[str]]:
    """Module -> names that the specification lets a plugin import."""
    found = {key.strip("`"): names for key, names in documented("module | names").items()}
    classes = [name for name, value in vars(errors).items() if isinstance(value, type)]
    complete = {"mpa_core": mpa_core.__all__, "mpa_core.errors": classes}
    return {
        **found,
        **complete,
        "mpa_core.tasks": tasks.__all__,
        "mpa_core.testing": testing.__all__,
    }
