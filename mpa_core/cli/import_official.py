"""The command ``mpa import-official``: the authors' released checkpoint to folders of ours."""

from __future__ import annotations

import argparse
from pathlib import Path

from mpa_core.cli.output import emit, facts
from mpa_core.cli.threads import add_threads_argument


def register(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
) -> None:
    """Add ``mpa import-official`` to the command line."""
    parser = subparsers.add_parser(
        "import-official",
        parents=[common],
        help="turn the authors' released checkpoint into a base and path folders",
    )
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help=".pth.tar file, or .safetensors"
    )
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="folder for OUT/base and one folder per path"
    )
    parser.add_argument("--force", action="store_true", help="overwrite existing folders")
    add_threads_argument(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert the checkpoint and print what was written."""
    from mpa_core.importing.importer import import_official

    report = import_official(args.checkpoint, args.out, force=args.force)
    emit(args, report, lambda: facts(report))
    return 0
