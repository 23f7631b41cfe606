"""The task paths that ``encode`` and ``decode`` load: their option, and where they come from."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpa_core.cli.common import fetched

if TYPE_CHECKING:
    from mpa_core.checkpoints import PathMeta


def add_load_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--load``, whose values :func:`fetched_paths` takes."""
    parser.add_argument(
        "--load",
        action="append",
        default=[],
        metavar="PATH",
        help="a path's folder, org/repo, or distribution:name, to load first, or NAME=FOLDER to "
        "call it by another name; may be repeated. Installed paths with weights for the base load "
        "by themselves",
    )


def fetched_paths(entries: Sequence[str]) -> list[str]:
    """Return the values of ``--load``, each ``[NAME=]SOURCE``, with repositories fetched.

    Raises:
        HubError, MissingDependencyError, OutputError: as :func:`mpa_core.cli.common.fetched`.
    """
    from mpa_core.checkpoints import path_on, split_named

    load = []
    for entry in entries:
        name, place = split_named(entry)
        found = fetched(place, path_on()) or place
        load.append(found if name is None else f"{name}={found}")
    return load


def fetched_path(said: str) -> tuple[str, PathMeta]:
    """Return what to load for ``said``, a folder or a repository, and what the path's folder says.

    The path is called by its own name.

    Raises:
        CheckpointError: there is no path in the folder.
        HubError, MissingDependencyError, OutputError: as :func:`mpa_core.cli.common.fetched`.
    """
    from mpa_core.checkpoints import path_on, read_path_meta, resolve

    folder = resolve(said, path_on())
    meta = read_path_meta(folder)
    return f"{meta.path_type}={folder.absolute()}", meta  # a bare name never means a folder
