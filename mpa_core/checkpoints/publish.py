"""Publishing folders as repositories of the Hugging Face Hub, and listing those. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mpa_core.arguments import as_text
from mpa_core.checkpoints.bundled import bundled_bases, bundled_fingerprints
from mpa_core.checkpoints.cards import LIBRARY
from mpa_core.checkpoints.hub import BASE_FILES, PATH_FILES, SAMPLE, api, library, split_repository
from mpa_core.checkpoints.hub_errors import in_a_line
from mpa_core.checkpoints.meta import (
    BASE_CONFIG,
    PATH_CONFIG,
    BaseMeta,
    BaseRef,
    PathMeta,
    is_run,
    read_base_meta,
    read_path_meta,
    said_kind,
)
from mpa_core.checkpoints.origin import Origin, origin_of
from mpa_core.errors import CheckpointError, ConfigError, HubError, MPAError


@dataclass(frozen=True)
class Target:
    """The place where a folder is published, in huggingface_hub's words.

    Raises :class:`ConfigError` for a name that is none.
    """

    repo_id: str
    """``org/repo``; made where there is none."""
    branch: str | None = None
    """To commit to; made where there is none. None is ``main``."""
    commit_message: str | None = None
    private: bool | None = None
    """Of a repository that is made; None is the account's default."""
    token: str | bool | None = None
    create_pr: bool = False
    """Open a pull request in place of a commit."""

    def __post_init__(self) -> None:
        found = split_repository(as_text(self.repo_id, "repo_id"))
        if found is None or found[1] is not None:
            raise ConfigError(
                f"repo_id is {self.repo_id!r}, expected org/repo, without a revision; give the "
                "account or organisation and a name"
            )


@dataclass(frozen=True)
class Published:
    """A commit with a checkpoint in it."""

    origin: Origin
    url: str
    """Of the commit, or of the pull request."""


def meta_of(folder: Path) -> BaseMeta | PathMeta:
    """Read what a folder holds; :class:`CheckpointError` if it is none of ours."""
    path, base = (folder / PATH_CONFIG).is_file(), (folder / BASE_CONFIG).is_file()
    if path and base:
        raise CheckpointError(
            f"{folder} has {BASE_CONFIG} and {PATH_CONFIG}, expected one of them: a base and a "
            "path each have a folder and a repository of their own; move one of them away"
        )
    if not (path or base or is_run(folder)):
        what = "has no checkpoint in it" if folder.is_dir() else "is no folder"
        raise CheckpointError(
            f"{folder} {what}, expected the folder of a base (with {BASE_CONFIG}) or of a path "
            f"(with {PATH_CONFIG}); give one that save_pretrained, save_path or mpa train export "
            "wrote"
        )
    return read_path_meta(folder) if path else read_base_meta(folder)


def require_known_base(base: BaseRef) -> None:
    """Refuse to publish a path whose base nobody else could load.

    Raises :class:`HubError` for a base that is neither bundled nor from a repository.
    """
    known = base.fingerprint in bundled_fingerprints() or (
        split_repository(base.repo_id) is not None and base.revision is not None
    )
    if not known:
        raise HubError(
            f"the path names the base {base.repo_id!r} without a commit of the Hub, so nobody "
            "could load it; publish the base first, codec.push_to_hub(ORG/BASE), then the path "
            f"with that codec, or take a bundled base ({', '.join(bundled_bases())})"
        )


def push_files(files: Mapping[str, bytes | Path], target: Target, kind: str) -> Published:
    """Put ``files`` into a repository, all in one commit; it is made where there is none.

    Files with other names stay. What did not change is not sent again.

    Args:
        files: name to content, or to the file that has it.
        target: the repository.
        kind: ``"base"`` or ``"path"``, what the files are.

    Raises:
        HubError: refused, out of reach, or a repository with a checkpoint of the other kind.
        MissingDependencyError: huggingface_hub is not installed.
    """
    hub, client = library(), api(target.token)
    message = target.commit_message or f"Push {kind} using mpa-core"
    with in_a_line(target.repo_id, target.branch, "push"):
        client.create_repo(target.repo_id, private=target.private, exist_ok=True)
        if target.branch is not None and not target.create_pr:
            client.create_branch(target.repo_id, branch=target.branch, exist_ok=True)
        branch = None if target.create_pr else target.branch
        there = {item.rfilename for item in client.model_info(target.repo_id).siblings or ()}
        other = {"base": PATH_CONFIG, "path": BASE_CONFIG}[kind]
        if other in there:
            raise HubError(
                f"{target.repo_id} has {other}, so it is no repository for a {kind}; give the "
                f"{kind} a repository of its own"
            )
        operations = [
            hub.CommitOperationAdd(name, data if isinstance(data, bytes) else str(data))
            for name, data in files.items()
        ]
        done = client.create_commit(
            target.repo_id,
            operations,
            commit_message=message,
            revision=branch,
            create_pr=target.create_pr,
        )
    return Published(Origin(target.repo_id, done.oid), str(done.pr_url or done.commit_url))


def folder_files(folder: Path) -> dict[str, bytes | Path]:
    """Return the files of a checkpoint's folder to publish, by name, its sample picture too."""
    names = (*(PATH_FILES if (folder / PATH_CONFIG).is_file() else BASE_FILES), SAMPLE)
    return {name: folder / name for name in names if (folder / name).is_file()}


@dataclass(frozen=True)
class Copy:
    """A checkpoint of the Hub that is in the cache."""

    origin: Origin
    revisions: tuple[str, ...]
    """Branches and tags that led to it when they were asked for last."""
    kind: str
    name: str | None
    """Of the base, or the type of the path; None if it cannot be read."""
    base: str | None
    """Of a path that can be read: what it was trained on."""
    bytes: int
    folder: Path
    problem: str | None
    """Why it cannot be read, such as a newer version that wrote it, and what to do."""


def cached(cache_dir: str | Path | None = None) -> list[Copy]:
    """List every checkpoint of ours in the cache of the Hub, by name; no server is asked.

    Raises:
        HubError: the cache cannot be read.
        MissingDependencyError: huggingface_hub is not installed.
    """
    hub = library()
    from huggingface_hub import constants

    folder = cache_dir or constants.HF_HUB_CACHE  # as it is now: the scan would take the first one
    try:
        found = hub.scan_cache_dir(folder)
    except hub.CacheNotFound:
        return []
    except ValueError as error:
        raise HubError(
            f"{folder} is a file, expected the folder of the Hub's cache; name "
            "one with --cache-dir (cache_dir=) or HF_HUB_CACHE"
        ) from error
    copies: list[Copy] = []
    with in_a_line("the cache", None, "list"):
        for repository in sorted(found.repos, key=lambda each: str(each.repo_id)):
            for revision in repository.revisions:
                copies += _copies(revision)
    return copies


def _copies(revision: Any) -> Iterator[Copy]:
    folder = Path(revision.snapshot_path)
    origin, kind = origin_of(folder), said_kind(folder)
    if origin is None or kind is None:  # a repository of anybody else's
        return
    name, base, problem = None, None, None
    try:
        meta = meta_of(folder)
    except MPAError as error:
        problem = str(error)
    else:
        name = meta.path_type if isinstance(meta, PathMeta) else meta.name
        base = meta.base.repo_id if isinstance(meta, PathMeta) else None
    refs, size = tuple(sorted(revision.refs)), int(revision.size_on_disk)
    yield Copy(origin, refs, kind, name, base, size, folder, problem)


@dataclass(frozen=True)
class Listed:
    """A repository of the Hub with a checkpoint of ours."""

    repo_id: str
    kind: str
    """``"base"`` or ``"path"``, by its tags."""
    downloads: int | None
    modified: datetime | None


def listed(author: str, token: str | bool | None = None) -> list[Listed]:
    """List the repositories of an account or organisation that are tagged ``mpa``, by name.

    Raises:
        HubError: the Hub cannot be reached or refuses.
        MissingDependencyError: huggingface_hub is not installed.
    """
    if not as_text(author, "author").strip():
        raise HubError("the account is empty, expected its name; write for example mpa hub ls me")
    client = api(token)
    with in_a_line(author, None, "list"):
        found = sorted(client.list_models(author=author, filter=LIBRARY), key=lambda m: str(m.id))
    return [
        Listed(
            model.id,
            _kind_by_tags(model.tags or ()),
            model.downloads,
            model.last_modified,
        )
        for model in found
    ]


def _kind_by_tags(tags: Sequence[str]) -> str:
    return next((kind for kind in ("base", "path") if f"mpa-{kind}" in tags), "-")
