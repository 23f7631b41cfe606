"""The option ``--reader`` of ``mpa encode``: the paths that a file is made for, by weight."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence

from mpa_core.cli.common import UsageError, asked_paths, reading
from mpa_core.cli.loading import add_load_argument, fetched_path, fetched_paths


def add_reader_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--reader`` and ``--load``, whose values :func:`asked_readers` takes."""
    parser.add_argument(
        "--reader",
        type=weights,
        metavar="PATHS",
        help="with an effort, the path that the file is made for, or several with weights, such as "
        "cls or main=1,cls=0.5 (1 if none is given); also a folder, or org/repo of the Hub "
        "(default: main)",
    )
    add_load_argument(parser)


def weights(text: str) -> dict[str, float]:
    """Read ``NAME[=WEIGHT],…`` as weights by name; a name alone weighs 1.

    Raises:
        argparse.ArgumentTypeError: an entry is anything else, or a name comes twice.
    """
    found: dict[str, float] = {}
    for entry in text.split(","):
        name, equals, number = (part.strip() for part in entry.rpartition("="))
        if not equals:
            name, number = number, "1"
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not (name and 0 < weight < math.inf):
            where = "" if entry == text else f" in {text!r}"
            raise argparse.ArgumentTypeError(
                f"{entry.strip()!r}{where} is no path with a weight above 0; write for example "
                "cls, or main=1,cls=0.5"
            )
        if name in found:
            raise argparse.ArgumentTypeError(
                f"{name} comes twice in {text!r}; give each path one weight"
            )
        found[name] = weight
    return found


def asked_readers(
    reader: Mapping[str, float] | None, load: Sequence[str]
) -> tuple[dict[str, float] | None, tuple[str, ...]]:
    """Return the weights by the plain names of paths, and what to load first for them.

    What is in a repository of the Hub is fetched.

    Raises:
        UsageError: two paths would be called the same, or two names mean one path.
        PathNotFoundError: ``distribution:name`` is not installed.
        CheckpointError: a folder holds no path.
        HubError, MissingDependencyError, OutputError: a repository cannot be fetched.
    """
    from mpa_core.checkpoints import is_bare

    sources = fetched_paths(load)
    said: dict[str, float] = {}
    for name, weight in (reader or {}).items():
        if not is_bare(name):
            source, meta = fetched_path(name)
            sources.append(source)
            if meta.path_type in said:
                raise UsageError(
                    f"--reader: {name} is called {meta.path_type!r}, as another reader is; load it "
                    f"under another name, --load OTHER={name}, and write OTHER"
                )
            name = meta.path_type
        said[name] = weight
    paths = asked_paths(sources, said)
    if reader is None:
        return None, tuple(paths.sources)
    with reading("--reader"):
        names = paths.names(said)
    return {names[name]: weight for name, weight in said.items()}, tuple(paths.sources)
