"""Folders of checkpoints from repositories of the Hugging Face Hub, by huggingface_hub. No torch.

huggingface_hub is imported where a repository is asked for, and nowhere else. Cache, offline mode,
``HF_HOME``, ``HF_HUB_CACHE``, ``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` are its own.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from mpa_core.arguments import as_flag, as_path, as_text, expect, shown
from mpa_core.checkpoints.cards import LIBRARY
from mpa_core.checkpoints.hub_errors import in_a_line
from mpa_core.checkpoints.meta import (
    BASE_CONFIG,
    BASE_WEIGHTS,
    CARD,
    EXACT_FORMATS,
    PATH_CONFIG,
    PATH_WEIGHTS,
    is_revision,
)
from mpa_core.errors import ConfigError, HubError
from mpa_core.requirements import missing, sdk_version

BASE_FILES = (BASE_CONFIG, BASE_WEIGHTS, EXACT_FORMATS, CARD)
PATH_FILES = (PATH_CONFIG, PATH_WEIGHTS, CARD)
SAMPLE = "sample.png"
"""The picture that a card shows."""


_REPOSITORY = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?")
_CHUNK = 2**20


@dataclass(frozen=True)
class HubOptions:
    """Options for fetching a repository, in huggingface_hub's words; each has its default.

    Raises:
        ConfigError: a field is none of what it may be.
    """

    revision: str | None = None
    """Branch, tag or commit; None is ``main``."""
    token: str | bool | None = None
    """Of an account; None and True take the one that ``HF_TOKEN`` or ``hf auth login`` has left,
    False none."""
    cache_dir: str | Path | None = None
    """Folder of copies; None is huggingface_hub's own."""
    local_files_only: bool = False
    """Take what is in the cache and ask no server."""
    force_download: bool = False
    """Fetch every file anew, although a copy is in the cache."""

    def __post_init__(self) -> None:
        if self.revision is not None and not is_revision(as_text(self.revision, "revision")):
            raise ConfigError(
                f"revision is {shown(self.revision)}, expected a branch, a tag or a commit; give "
                "its name as the Hub shows it"
            )
        if not isinstance(self.token, bool):
            expect(self.token, (str, type(None)), "token", "text, True, False or None", ConfigError)
        if self.cache_dir is not None:
            as_path(self.cache_dir, "cache_dir", ConfigError)
        as_flag(self.local_files_only, "local_files_only")
        as_flag(self.force_download, "force_download")

    def at(self, revision: str | None) -> HubOptions:
        """Return these options for another revision."""
        return replace(self, revision=revision)


def split_repository(text: str) -> tuple[str, str | None] | None:
    """Return repository and revision of ``org/repo@revision``; None for any other text."""
    found = _REPOSITORY.fullmatch(text)
    return None if found is None else (found[1], found[2])


def library() -> ModuleType:
    """Return the module huggingface_hub.

    Raises :class:`MissingDependencyError` where it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise missing(
            "repositories of the Hugging Face Hub need", "huggingface_hub", "hub", error
        ) from error
    return huggingface_hub


def api(token: str | bool | None = None) -> Any:
    """Return a client of the Hub, ``huggingface_hub.HfApi``, that says who it works for."""
    return library().HfApi(token=token, library_name=LIBRARY, library_version=sdk_version())


def fetch(repo_id: str, files: tuple[str, ...], options: HubOptions) -> Path:
    """Return the folder with a repository's ``files``, and fetch those that the cache lacks.

    The server is asked which commit ``options.revision`` is; where it cannot be reached, the copy
    that was made last is taken, as huggingface_hub does it everywhere. Files are held to the
    hashes of the Hub, also those that were in the cache already.

    Args:
        repo_id: ``org/repo``.
        files: names; those that the repository lacks are left out.
        options: revision, token, cache.

    Raises:
        HubError: it is not there, may not be read, cannot be reached, or what arrived is damaged.
        OutputError: the cache cannot be written.
        MissingDependencyError: huggingface_hub is not installed.
    """
    hub = library()
    # Of either kind: so that a path given as a base is told from what is none of ours.
    patterns = sorted({*files, BASE_CONFIG, PATH_CONFIG})
    with in_a_line(repo_id, options.revision, "fetch", options.local_files_only):
        folder = Path(
            hub.snapshot_download(
                repo_id,
                revision=options.revision,
                token=options.token,
                cache_dir=options.cache_dir,
                local_files_only=options.local_files_only,
                force_download=options.force_download,
                allow_patterns=patterns,
                library_name=LIBRARY,
                library_version=sdk_version(),
            )
        )
    if not any((folder / name).is_file() for name in patterns):
        raise HubError(
            f"{repo_id}@{folder.name[:12]} has none of {', '.join(patterns)}: it is no base and no "
            "path of the MPA SDK; check the name, or the revision"
        )
    for name in patterns:
        _check_hash(folder / name, repo_id)
    return folder


def _check_hash(file: Path, repo_id: str) -> None:
    """Hold a file of the cache to its hash, which is the name of the blob that it is a link to.

    Where links cannot be made the cache has no blobs, and only the fingerprint tells damage.
    """
    if not file.is_symlink():
        return
    expected = file.readlink().name
    try:
        size = file.stat().st_size
        if len(expected) == 64:
            digest = hashlib.sha256()
        else:  # of git, for small files
            digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        with file.open("rb") as handle:
            while chunk := handle.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise HubError(
            f"the copy {file} of a file of {repo_id} cannot be read ({error.strerror}); check its "
            f"permissions, or fetch it again: mpa hub pull {repo_id} --force"
        ) from error
    if digest.hexdigest() != expected:
        raise HubError(
            f"the copy {file} of a file of {repo_id} is damaged: its hash is "
            f"{digest.hexdigest()[:12]}…, expected {expected[:12]}…; fetch it again: "
            f"mpa hub pull {repo_id}@{file.parent.name} --force"
        )
