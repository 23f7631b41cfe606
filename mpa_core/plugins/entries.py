"""Entry points of what is installed, one distribution at a time.

``importlib.metadata.entry_points`` stops at the first file that is not as it should be, of whatever
distribution. Here it concerns its own distribution alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import NamedTuple

_FILE = "entry_points.txt"


class Entry(NamedTuple):
    """One entry point, or a distribution whose entry points cannot be told."""

    name: str
    module: str
    distribution: str
    version: str
    error: str | None = None
    """What is wrong with the metadata, with its folder, in one line; None if nothing is."""


def installed_entries(group: str) -> list[Entry]:
    """Entry points of ``group``; of a distribution installed twice, those that Python sees first.

    A distribution that has to do with ``group`` and whose metadata cannot be read is in the list
    with its error; one that has not is passed over.
    """
    found: list[Entry] = []
    seen: set[str] = set()
    for distribution in distributions():
        folder = getattr(distribution, "_path", None)  # public for no kind of distribution
        name, version = _of_folder(folder)
        if name and normalize(name) in seen:
            continue
        seen.add(normalize(name))
        found += _entries(distribution, group, folder, name, version)
    return found


def damaged_folders() -> list[str]:
    """Folders of installed metadata, anybody's, whose entry points cannot be read.

    torch and others look at the entry points of all that is installed when they are imported, by
    Python's own way: one such folder is the end of that.
    """
    found = []
    for distribution in distributions():
        try:
            tuple(distribution.entry_points)
        except Exception:  # noqa: BLE001 -- whatever it raises, others will meet it
            found.append(str(getattr(distribution, "_path", "a distribution without a folder")))
    return found


def normalize(distribution: str) -> str:
    """The name by which package installers compare distributions (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _entries(
    distribution: Distribution, group: str, folder: object, name: str, version: str
) -> Iterator[Entry]:
    problem: str | None = None
    where = f"in {folder}; reinstall the distribution or delete the folder"
    try:
        entries = [
            (entry.name, entry.value) for entry in distribution.entry_points if entry.group == group
        ]
    except Exception as error:  # noqa: BLE001 - no list of what a parser may raise
        if _mentions(folder, group):
            problem = f"{_FILE} cannot be read ({type(error).__name__}: {error}) {where}"
            yield Entry(name, "", name, version, " ".join(problem.split()))
        return
    if not entries:
        return
    try:
        stated = distribution.metadata
        # A missing file is None, or an empty text, by the version of Python; so is a field.
        fields = {key: stated[key] if stated and key in stated else None for key in _FIELDS}
        missing = [key for key in _FIELDS if not fields[key]]
        if missing:
            problem = f"METADATA is missing or has no {' and no '.join(missing)} {where}"
        name, version = fields["Name"] or name, fields["Version"] or version
    except Exception as error:  # noqa: BLE001 - as above
        problem = f"METADATA cannot be read ({type(error).__name__}: {error}) {where}"
    for entry_name, value in entries:
        yield Entry(entry_name, value, name, version, problem and " ".join(problem.split()))


_FIELDS = ("Name", "Version")


def _of_folder(folder: object) -> tuple[str, str]:
    """Name and version as the folder of the metadata has them, ``NAME-VERSION.dist-info``."""
    stem = str(getattr(folder, "name", "")).rpartition(".")[0]
    name, _, version = stem.partition("-")
    return name or "(unknown distribution)", version


def _mentions(folder: object, group: str) -> bool:
    try:
        return isinstance(folder, Path) and group.encode() in (folder / _FILE).read_bytes()
    except OSError:
        return False
