"""The command ``mpa exact``: formats of a base's exact entropy profile, found on photos."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from mpa_core.cli.output import emit, facts
from mpa_core.cli.threads import add_threads_argument


def register(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
) -> None:
    """Add ``mpa exact`` to the command line."""
    parser = subparsers.add_parser(
        "exact",
        parents=[common],
        help="fit a base's exact entropy profile to photos, and count what it costs",
    )
    parser.add_argument("base", metavar="BASE", help="bundled base or folder")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument("--data", type=Path, metavar="DIR", help="photos (default: a bundled one)")
    parser.add_argument("--limit", type=int, metavar="N", help="use N photos at most")
    parser.add_argument("--force", action="store_true", help="overwrite an existing folder")
    add_threads_argument(parser, lasting=True)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert the base, and print what was written and its cost."""
    from mpa_core.conversion import convert_base

    done = convert_base(args.base, args.out, args.data, limit=args.limit, force=args.force)
    report = {**asdict(done), "skipped": list(done.skipped), "cost": round(done.cost, 6)}
    shown = {**report, "skipped": len(done.skipped), "cost": f"{done.cost:+.3%} of the bits"}
    emit(args, report, lambda: facts(shown))
    return 0
