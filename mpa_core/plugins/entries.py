"""Entry points of what is installed, one distribution at a time.

``importlib.metadata.entry_points`` stops at the first file that is not as it should be, of whatever
distribution. Here it concerns its own distribution alone.
"""

from __future__ import annotations

import re
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import NamedTuple

from typing_extensions import Self

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
    with its error; one that has not is passed over. Where the metadata do not name a distribution,
    it is called as their folder, and it is known from others by the whole name of that: what is
    left over from another version hides no distribution, and is hidden by none.
    """
    found: list[Entry] = []
    seen: set[str] = set()
    for distribution in distributions():
        folder = getattr(distribution, "_path", None)  # public for no kind of distribution
        listed = _Listed.of(distribution, group, folder)
        if listed is None:
            if _has_metadata(folder):  # of no interest, but it hides itself further on
                seen.add(normalize(_of_folder(folder)[0]))
            continue
        if listed.key in seen:
            continue
        seen.add(listed.key)
        found += listed.entries
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


class _Listed(NamedTuple):
    """What one distribution has of a group."""

    key: str
    """What is equal for two installations of one distribution."""
    entries: list[Entry]

    @classmethod
    def of(cls, distribution: Distribution, group: str, folder: object) -> Self | None:
        """None if it has nothing to do with ``group``."""
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
    """Name and version as the folder of the metadata has them, ``NAME-VERSION.dist-info``.

    A folder of another kind of name (``EGG-INFO``) is a name without a version.
    """
    whole = str(getattr(folder, "name", ""))
    stem, _, kind = whole.rpartition(".")
    name, _, version = stem.partition("-")
    if name and kind in ("dist-info", "egg-info"):
        return name, version
    return whole or "(unknown distribution)", ""


def _has_metadata(folder: object) -> bool:
    """Whether the file is there that names the distribution; reads none of them, there are many."""
    if not isinstance(folder, Path):
        return True
    return folder.is_file() or any((folder / file).is_file() for file in ("METADATA", "PKG-INFO"))


def _mentions(folder: object, group: str) -> bool:
    try:
        return isinstance(folder, Path) and group.encode() in (folder / _FILE).read_bytes()
    except OSError:
        return False
