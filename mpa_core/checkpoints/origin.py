"""The repository of the Hub that a folder is a copy of, by its place in the cache. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_COMMIT = re.compile(r"[0-9a-f]{40}")
_CACHED = "models--"


@dataclass(frozen=True)
class Origin:
    """The repository that a folder is a copy of."""

    repo_id: str
    revision: str
    """The commit, 40 hex digits."""

    def __str__(self) -> str:
        return f"{self.repo_id}@{self.revision[:12]}"


def origin_of(folder: Path) -> Origin | None:
    """Return where a folder in the cache of the Hub comes from; None for any other folder.

    Told by its place, ``models--org--repo/snapshots/COMMIT``: no name of a repository has ``--``.
    """
    folder = Path(folder).absolute()
    repository = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not repository.startswith(_CACHED):
        return None
    if not _COMMIT.fullmatch(folder.name):
        return None
    return Origin(repository.removeprefix(_CACHED).replace("--", "/"), folder.name)
