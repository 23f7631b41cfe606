"""The command ``mpa info``: the header of an ``.mpa`` file. Needs no torch."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from mpa_core.cli.common import read_input
from mpa_core.cli.output import emit_line, facts, report_error
from mpa_core.cli.streams import stdout
from mpa_core.errors import MPAError


def register(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
) -> None:
    """Add ``mpa info`` to the command line."""
    parser = subparsers.add_parser(
        "info", parents=[common], help="show what .mpa files say about themselves"
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help=".mpa files; - for stdin")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Describe every file; a damaged one is reported and the others go on."""
    from mpa_core.checkpoints import bundled_fingerprints

    bases = {value[:16]: name for value, name in bundled_fingerprints().items()}
    as_json = args.format == "json"
    done = failed = 0
    for name in args.files:
        try:
            row: dict[str, Any] = {"file": name, **_describe(read_input(name), bases)}
        except MPAError as error:
            failed += 1
            row = {"file": name, "error": report_error(error, name)}
        else:
            if not as_json:
                print("\n" * (done > 0), facts(row), sep="", file=stdout())
            done += 1
        if as_json:
            emit_line(row)
    if as_json:
        emit_line({"done": done, "failed": failed, "total": len(args.files)})
    if failed and len(args.files) > 1:
        print(f"mpa: {failed} of {len(args.files)} files failed", file=sys.stderr)
    return 1 if failed else 0


def _describe(data: bytes, bases: dict[str, str]) -> dict[str, Any]:
    from mpa_core.bitstream.container import PROFILES
    from mpa_core.bitstream.parsed import parse_file

    file = parse_file(data)
    container = file.container
    prefix = container.fingerprint.hex()
    streams = {name: len(stream) for name, stream in container.named_streams.items()}
    chunks = {
        name.decode("ascii", "replace"): len(value) for name, value in container.chunks.items()
    }
    height, width = file.upright_size
    # Nothing is printed for a picture that is stored upright.
    seen = {"orientation": file.orientation, "upright_width": width, "upright_height": height}
    return {
        "width": container.width,
        "height": container.height,
        **(seen if file.orientation != 1 else {}),
        "quality": container.quality,
        **file.size_figures,
        "base": bases.get(prefix),
        "fingerprint": prefix,
        "profile": PROFILES[container.profile],
        "streams": streams,
        "chunks": chunks,
        "metadata": {key: len(value) for key, value in file.metadata._asdict().items() if value},
        "overhead": file.file_size - sum(streams.values()) - sum(chunks.values()),
        "symbols_crc": f"{container.symbols_crc:08x}",
    }
