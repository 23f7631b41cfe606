"""``mpa decode``: ``.mpa`` files to pictures, by the paths asked for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpa_core.cli.common import (
    STREAM,
    Job,
    UsageError,
    add_job_arguments,
    plan,
    read_input,
    run_jobs,
    write_output,
)
from mpa_core.errors import BaseMismatchError

if TYPE_CHECKING:
    from mpa_core.codec import MPACodec
    from mpa_core.mix import Mix


def register(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
) -> None:
    """Add ``mpa decode`` to the command line."""
    parser = subparsers.add_parser(
        "decode", parents=[common], help="reconstruct pictures from .mpa files, for any reader"
    )
    add_job_arguments(parser, ".mpa files")
    parser.add_argument(
        "--base",
        metavar="ID",
        help="bundled base or folder (default: the bundled base that made the file)",
    )
    shares = parser.add_mutually_exclusive_group()
    shares.add_argument("--path", metavar="NAME", help="decode by this path alone (default: main)")
    shares.add_argument(
        "--mix", metavar="MIX", help="shares of several paths, cls=0.4,mse=0.2; the rest is main's"
    )
    parser.add_argument(
        "--region",
        action="append",
        default=[],
        metavar="NAME=MASK",
        help="send the nonzero pixels of the picture MASK to path NAME; may be repeated",
    )
    parser.add_argument(
        "--load",
        action="append",
        default=[],
        metavar="PATH",
        help="a path's folder, or distribution:name, to load first; may be repeated. Installed "
        "paths with weights for the base load by themselves",
    )
    parser.add_argument(
        "--suffix",
        default=".png",
        metavar=".EXT",
        help="format of the pictures in an output folder and on stdout (%(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Decode every input; returns the exit code."""
    suffix = "." + args.suffix.lstrip(".")
    regions = _split_regions(args.region)
    jobs = plan(args, suffix)
    # After the arguments are known to make sense: torch takes seconds.
    from mpa_core.bitstream.container import unpack
    from mpa_core.images import encode_image, load_image, output_format
    from mpa_core.mix import MAIN, Mix

    for job in jobs:
        output_format(_suffix_of(job, suffix))
    masks = {name: load_image(file) for name, file in regions.items()}
    # A path asked for as distribution:name is loaded under its name.
    asked = MAIN if args.path is None else args.path
    path = asked.rpartition(":")[2]
    load = args.load if path == asked else [*args.load, asked]
    mix = Mix.parse(f"{path}=1" if args.mix is None else args.mix, regions=masks)
    codecs = _Codecs(args.base, load, mix)

    def work(job: Job) -> dict[str, Any]:
        data = read_input(job.source)
        codec = codecs.for_fingerprint(unpack(data).fingerprint)
        image = codec.decode(data, mix)
        picture = encode_image(image, _suffix_of(job, suffix))
        write_output(job.target, picture, force=args.force)
        return {
            "width": image.width,
            "height": image.height,
            "base": codec.name,
            "mix": {MAIN: mix.main, **mix.shares},
            "regions": list(mix.regions),
        }

    return run_jobs(args, jobs, work)


class _Codecs:
    """The codec for a file: the one asked for, or the bundled one that made it. Each loads once."""

    def __init__(self, base: str | None, load: list[str], mix: Mix) -> None:
        self._load_first = load
        self._mix = mix
        self._loaded: dict[str, MPACodec] = {}
        self._base = base
        if base is not None:
            self._load(base)

    def for_fingerprint(self, prefix: bytes) -> MPACodec:
        base = self._base if self._base is not None else _bundled_base(prefix)
        return self._loaded[base] if base in self._loaded else self._load(base)

    def _load(self, base: str) -> MPACodec:
        from mpa_core.codec import MPACodec

        codec = MPACodec.from_pretrained(base)
        for source in self._load_first:
            codec.load_path(source)
        for name in self._mix.path_names:
            if name not in codec.paths:
                codec.load_path(name)
        self._loaded[base] = codec
        return codec


def _bundled_base(prefix: bytes) -> str:
    from mpa_core.hub import bundled_fingerprints

    bundled = bundled_fingerprints()
    for fingerprint, name in bundled.items():
        if fingerprint.startswith(prefix.hex()):
            return name
    known = ", ".join(f"{name} {value[:16]}" for value, name in bundled.items()) or "none"
    raise BaseMismatchError(
        f"the file was made by the base {prefix.hex()}, which is not bundled (bundled: {known}); "
        "name the folder of that base with --base"
    )


def _split_regions(entries: list[str]) -> dict[str, str]:
    regions: dict[str, str] = {}
    for entry in entries:
        name, equals, file = entry.partition("=")
        if not (name and equals and file):
            raise UsageError(f"--region {entry} is not NAME=MASK; write for example ocr=mask.png")
        if name in regions:
            raise UsageError(f"--region names {name} twice; put both areas into one mask")
        regions[name] = file
    return regions


def _suffix_of(job: Job, default: str) -> str:
    return default if job.target == STREAM else Path(job.target).suffix
