"""Entry points of installed distributions, read for one distribution at a time.

``importlib.metadata.entry_points`` fails at the first malformed file, of whatever distribution.
Here such a file affects its own distribution alone.
"""

from __future__ import annotations

import re
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import NamedTuple

from typing_extensions import Self

_FILE = "entry_points.txt"


class Entry(NamedTuple):
    """One entry point, or a distribution whose entry points cannot be read."""

    name: str
    module: str
    distribution: str
    version: str
    error: str | None = None
    """Fault of the metadata, with its folder, in one line; None for no fault."""


def installed_entries(group: str) -> list[Entry]:
    """Return the entry points of ``group``, from the first installation of each distribution.

    If a distribution is installed twice, the one that Python finds first counts. A distribution
    that mentions ``group`` and whose metadata cannot be read is in the list with its error; one
    that does not mention it is skipped. A distribution whose metadata do not name it is called by
    the name of their folder, and is told from others by that whole name: leftovers of another
    version neither hide a distribution nor are hidden by one.
    """
    found: list[Entry] = []
    seen: set[str] = set()
    for distribution in distributions():
        folder = getattr(distribution, "_path", None)  # no public attribute has it
        listed = _Listed.of(distribution, group, folder)
        if listed is None:
            if _has_metadata(folder):  # without entries, but it hides later installations of itself
                seen.add(normalize(_of_folder(folder)[0]))
            continue
        if listed.key in seen:
            continue
        seen.add(listed.key)
        found += listed.entries
    return found


def damaged_folders() -> list[str]:
    """Return the folders of all installed metadata whose entry points cannot be read.

    torch and others read the entry points of everything installed when they are imported, by
    Python's own means, and one such folder makes that fail.
    """
    found = []
    for distribution in distributions():
        try:
            tuple(distribution.entry_points)
        except Exception:  # noqa: BLE001 -- whatever it raises, other packages will fail alike
            found.append(str(getattr(distribution, "_path", "a distribution without a folder")))
    return found


def normalize(distribution: str) -> str:
    """Return the name by which package installers compare distributions (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


class _Listed(NamedTuple):
    """The entries of one distribution in a group."""

    key: str
    """A key that is equal for two installations of one distribution."""
    entries: list[Entry]

    @classmethod
    def of(cls, distribution: Distribution, group: str, folder: object) -> Self | None:
        """Read the entries of ``distribution``; None if it has none in ``group``."""
        where = f"in {folder}; reinstall the distribution or delete the folder"
        problem: str | None = None
        entries: list[tuple[str, str]] = []
        name, version = _of_folder(folder)
        try:
            entries = [(e.name, e.value) for e in distribution.entry_points if e.group == group]
            if not entries:
                return None
        except Exception as error:  # noqa: BLE001 - no list of what a parser may raise
            if not _mentions(folder, group):
                return None
            problem = f"{_FILE} cannot be read ({type(error).__name__}: {error}) {where}"
            entries = [(name, "")]
        key = str(getattr(folder, "name", folder))
        try:
            stated = distribution.metadata
            # A missing file is None, or an empty text, by the version of Python; so is a field.
            fields = {key: stated[key] if stated and key in stated else None for key in _FIELDS}
            missing = [key for key in _FIELDS if not fields[key]]
            if missing and problem is None:
                problem = f"METADATA is missing or has no {' and no '.join(missing)} {where}"
            name, version = fields["Name"] or name, fields["Version"] or version
            key = normalize(name) if fields["Name"] else key
        except Exception as error:  # noqa: BLE001 - as above
            problem = (
                problem or f"METADATA cannot be read ({type(error).__name__}: {error}) {where}"
            )
        text = problem and " ".join(problem.split())
        return cls(key, [Entry(entry, value, name, version, text) for entry, value in entries])


_FIELDS = ("Name", "Version")


def _of_folder(folder: object) -> tuple[str, str]:
    """Return name and version by the folder of the metadata, ``NAME-VERSION.dist-info``.

    A folder with another kind of name (``EGG-INFO``) gives its name and no version.
    """
    whole = str(getattr(folder, "name", ""))
    stem, _, kind = whole.rpartition(".")
    name, _, version = stem.partition("-")
    if name and kind in ("dist-info", "egg-info"):
        return name, version
    return whole or "(unknown distribution)", ""


def _has_metadata(folder: object) -> bool:
    """Return whether the file that names the distribution exists; there are too many to read."""
    if not isinstance(folder, Path):
        return True
    return folder.is_file() or any((folder / file).is_file() for file in ("METADATA", "PKG-INFO"))


def _mentions(folder: object, group: str) -> bool:
    try:
        return isinstance(folder, Path) and group.encode() in (folder / _FILE).read_bytes()
    except OSError:
        return False
