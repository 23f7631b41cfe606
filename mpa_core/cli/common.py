"""The common part of ``encode`` and ``decode``: arguments, and reading one file."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mpa_core.cli.threads import add_threads_argument, counted
from mpa_core.errors import (
    BitstreamError,
    ConfigError,
    DamageWarning,
    MetadataWarning,
    MPAError,
    PictureWarning,
)
from mpa_core.runtime.streams import stdin

if TYPE_CHECKING:
    from mpa_core.bitstream.metadata import Metadata
    from mpa_core.checkpoints import AskedPaths
    from mpa_core.checkpoints.sources import Kind
    from mpa_core.io.stripping import What

STREAM = "-"
"""Argument that stands for stdin as an input and for stdout as the output."""


class UsageError(MPAError):
    """The arguments do not make sense together; exit code 2."""


@contextmanager
def reading(option: str) -> Iterator[None]:
    """Turn errors about the value of ``option`` into :class:`UsageError`."""
    try:
        yield
    except MPAError as error:
        raise UsageError(f"{option}: {error}") from error


class Job(NamedTuple):
    """One input and the place of its result; either may be :data:`STREAM`."""

    source: str
    target: str


def add_job_arguments(parser: argparse.ArgumentParser, what: str, in_folder: str) -> None:
    """Add ``IN… -o OUT`` and the options for many files.

    Args:
        parser: parser of the command.
        what: description of the inputs, in the plural.
        in_folder: description of the files that are taken from a folder.
    """
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="IN",
        help=f"{what}; a folder stands for all {in_folder} below it; - for stdin",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="a file (- for stdout) for one input; a folder if it exists, ends in / or there are "
        "several inputs",
    )
    parser.add_argument(
        "--from-file",
        metavar="LIST",
        help="more inputs, one a line or separated by NUL bytes; - for a list on stdin",
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        help="keep the inputs' sub-folders below DIR in OUT (default: below an input that is a "
        "folder, and for LIST below the current folder)",
    )
    parser.add_argument(
        "--keep-suffix",
        action="store_true",
        help="add the new suffix to a name instead of replacing the old one (a.jpg.mpa)",
    )
    existing = parser.add_argument_group("files that exist already (otherwise an error each)")
    existing.add_argument(
        "--resume",
        action="store_true",
        help="leave out inputs whose output is there, whole and as it should be",
    )
    existing.add_argument(
        "--force",
        action="store_true",
        help="overwrite existing files; with --resume, those that are not as they should be",
    )
    parser.add_argument(
        "--jobs",
        type=counted("processes"),
        metavar="N",
        help="worker processes (default: for several inputs as many as processors, memory and "
        "inputs allow, of one thread each; for a single one this process)",
    )
    add_threads_argument(parser)


def add_strip_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--strip`` and ``--strip-location``, which set ``strip`` in the result."""
    strip = parser.add_mutually_exclusive_group()
    strip.add_argument(
        "--strip",
        action="store_const",
        const="all",
        help="leave out all metadata; a colour profile and the EXIF orientation are carried out on "
        "the pixels first, so that the picture looks the same",
    )
    strip.add_argument(
        "--strip-location",
        action="store_const",
        const="location",
        dest="strip",
        help="leave out where the picture was taken; the other EXIF data stay as they are",
    )


@contextmanager
def noting(figures: dict[str, Any]) -> Iterator[None]:
    """Collect the SDK's warnings in the block in ``figures``, as ``damage`` and ``warnings``."""
    names = {DamageWarning: "damage", MetadataWarning: "warnings", PictureWarning: "warnings"}
    with warnings.catch_warnings(record=True) as caught:
        for category in names:
            warnings.simplefilter("always", category)
        yield
    for warning in caught:
        name = next((n for kind, n in names.items() if issubclass(warning.category, kind)), None)
        if name is not None:
            figures.setdefault(name, []).append(str(warning.message))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


def metadata_difference(metadata: Metadata, strip: What | None) -> str | None:
    """Describe how a file with ``metadata`` differs from one without those ``strip`` names.

    None if it does not.
    """
    from mpa_core.io.location import has_location

    if strip == "all" and any(metadata):
        return "has metadata, which --strip leaves out"
    if strip == "location" and metadata.exif and has_location(metadata.exif):
        return "says where the picture was taken, which --strip-location leaves out"
    return None


def read_input(name: str) -> bytes:
    """Return all bytes of an ``.mpa`` file, or of stdin.

    Raises:
        BitstreamError: it cannot be read.
    """
    try:
        return stdin(BitstreamError).read() if name == STREAM else Path(name).read_bytes()
    except OSError as error:
        raise BitstreamError(f"cannot read {name}: {error.strerror}; check the name") from error


def fetched(said: str | None, kind: Kind) -> str | None:
    """Return ``said``, a base or a path; of a repository of the Hub its folder in the cache.

    So it is fetched once, before workers begin, and they ask no server.

    Raises:
        HubError, MissingDependencyError, OutputError: the repository cannot be fetched.
    """
    from mpa_core.checkpoints.sources import resolve, source_of

    if said is None or source_of(said).kind != "repository":
        return said
    return str(resolve(said, kind))


def asked_paths(sources: Sequence[str], also: Iterable[str] = ()) -> AskedPaths:
    """Return what the options that load paths ask for; see :class:`AskedPaths`.

    Raises:
        UsageError: two of them would be called the same.
        PathNotFoundError: a name in ``also`` is not installed.
    """
    from mpa_core.checkpoints import AskedPaths

    try:
        return AskedPaths(sources, also)
    except ConfigError as error:
        raise UsageError(str(error)) from error


def bundled_fingerprints() -> dict[str, str]:
    """Return the fingerprint (64 hex digits) of each base that ships with the package, by id.

    Imports no torch.
    """
    from mpa_core.checkpoints import bundled_bases, read_base_meta

    return {name: read_base_meta(folder).fingerprint for name, folder in bundled_bases().items()}
