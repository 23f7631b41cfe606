"""The command ``mpa decode``: ``.mpa`` files to pictures, by the paths asked for."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mpa_core.cli.common import (
    Job,
    UsageError,
    add_job_arguments,
    add_strip_arguments,
    asked_paths,
    fetched,
    metadata_difference,
    noting,
    read_input,
    reading,
)
from mpa_core.cli.encode import age_difference
from mpa_core.cli.loading import add_load_argument, fetched_path, fetched_paths
from mpa_core.codecs import Codecs
from mpa_core.errors import ImageError

if TYPE_CHECKING:
    from mpa_core.bitstream.parsed import ParsedFile
    from mpa_core.cli.batch.jobs import Step
    from mpa_core.io.stripping import What
    from mpa_core.mix import Mix


def register(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
) -> None:
    """Add ``mpa decode`` to the command line."""
    parser = subparsers.add_parser(
        "decode", parents=[common], help="reconstruct pictures from .mpa files, for any reader"
    )
    add_job_arguments(parser, ".mpa files", ".mpa files")
    parser.add_argument(
        "--base",
        metavar="ID",
        help="bundled base, folder or org/repo of the Hub (default: the bundled base that made the "
        "file, or the base of a --path from the Hub)",
    )
    shares = parser.add_mutually_exclusive_group()
    shares.add_argument(
        "--path",
        metavar="NAME",
        help="decode by this path alone, installed, of a folder, or org/repo of the Hub "
        "(default: main)",
    )
    shares.add_argument(
        "--mix", metavar="MIX", help="shares of paths, such as cls=0.4,mse=0.2; the rest is main's"
    )
    parser.add_argument(
        "--region",
        action="append",
        default=[],
        metavar="NAME=MASK",
        help="send the nonzero pixels of the picture MASK to path NAME; may be repeated",
    )
    add_load_argument(parser)
    parser.add_argument(
        "--suffix",
        default=".png",
        metavar=".EXT",
        help="format of the pictures in an output folder and on stdout (%(default)s)",
    )
    parser.add_argument(
        "--errors",
        choices=("strict", "conceal"),
        default="strict",
        help="what a damaged file gives: an error, or the best picture to be had of it and a "
        "warning (%(default)s)",
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        metavar="N",
        help="refuse files that declare a larger picture, width x height; lower it for files from "
        "strangers (89478485)",
    )
    add_strip_arguments(parser)
    parser.add_argument(
        "--no-orient",
        dest="orient",
        action="store_false",
        help="leave pixels and EXIF orientation as stored, and take the masks of --region so",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Decode every input, and return the exit code."""
    from mpa_core.bitstream.container import MAX_PIXELS
    from mpa_core.cli.batch.job_list import make_job_list
    from mpa_core.cli.batch.run import run_jobs

    max_pixels = MAX_PIXELS if args.max_pixels is None else args.max_pixels
    if max_pixels < 1:
        raise UsageError(f"--max-pixels is {max_pixels}, expected at least 1")
    suffix = "." + args.suffix.lstrip(".")
    regions = _split_regions(args.region)
    job_list = make_job_list(args, suffix, {".mpa"})
    if not (job_list.to_folder or job_list.to_stdout):
        suffix = Path(args.output).suffix
    base, path, load = _fetched(args)
    settings = DecoderSettings(
        base=base,
        path=path,
        mix=args.mix,
        regions=regions,
        load=load,
        suffix=suffix,
        errors=args.errors,
        max_pixels=max_pixels,
        strip=args.strip,
        orient=args.orient,
    )
    return run_jobs(args, job_list, settings)


def _fetched(args: argparse.Namespace) -> tuple[str | None, str | None, tuple[str, ...]]:
    """Return base, path and paths to load first, after fetching what is in repositories.

    A path of a folder or a repository is loaded from there and called by its own name. Without
    ``--base``, such a path's base is taken if it is not bundled.
    """
    from mpa_core.checkpoints import BASE, base_folder, bundled_fingerprints, is_bare
    from mpa_core.checkpoints.hub import split_repository

    base, path = fetched(args.base, BASE), args.path
    load = fetched_paths(args.load)
    if path is not None and not is_bare(path):
        source, meta = fetched_path(path)
        path = meta.path_type
        load.append(source)
        bundled = meta.base.fingerprint in bundled_fingerprints()
        if base is None and not bundled and split_repository(meta.base.repo_id):
            base = str(base_folder(meta.base))
    return base, path, tuple(load)


@dataclass(frozen=True)
class DecoderSettings:
    """The settings for decoding every file, named like the options."""

    base: str | None
    path: str | None
    mix: str | None
    regions: dict[str, str]
    """Files of the masks, by path."""
    load: tuple[str, ...]
    suffix: str
    """Suffix of every picture that is written."""
    errors: Literal["strict", "conceal"]
    max_pixels: int
    strip: What | None
    orient: bool

    def start(self) -> Decoder:
        """Load masks, and the base and the paths if they are named."""
        from mpa_core.io.images import load_image, output_format
        from mpa_core.mix import MAIN, Mix

        output_format(self.suffix)
        masks = {name: load_image(file) for name, file in self.regions.items()}
        mix = Mix.parse(
            f"{MAIN if self.path is None else self.path}=1" if self.mix is None else self.mix,
            regions=masks,
        )
        paths = asked_paths(self.load, mix.path_names)
        with reading("--mix"):
            mix = paths.mix(mix)
        codecs = Codecs(self.base, paths.sources, mix.path_names, named_by="--base")
        return Decoder(self, codecs, mix)

    def pixels(self, job: Job) -> int:
        """Return width times height of the picture in an undamaged file."""
        from mpa_core.bitstream.container import unpack

        header = unpack(read_input(job.source), max_pixels=self.max_pixels)
        return header.width * header.height


class Decoder:
    """Decodes one file after the other."""

    def __init__(self, settings: DecoderSettings, codecs: Codecs, mix: Mix) -> None:
        self.settings = settings
        self.codecs = codecs
        self.mix = mix

    def difference(self, job: Job) -> str | None:
        """Describe how the existing picture differs from that of :meth:`make`; None if it does not.

        Its size, its age and reading it once tell; nothing in it says which paths made it.
        """
        from mpa_core.bitstream.metadata import Metadata
        from mpa_core.io.images import load_image
        from mpa_core.io.metadata import read_exif

        try:
            picture = load_image(job.target)
        except ImageError as error:
            return f"is not a whole picture ({error})"
        header = self._parsed(job).container
        # Sorted, since the file, or the picture after --no-orient, may be turned by 90 degrees.
        if sorted(picture.size) != sorted((header.width, header.height)):
            return f"is {picture.width}x{picture.height}, not {header.width}x{header.height}"
        metadata = Metadata(picture.info.get("icc_profile"), read_exif(picture))
        return metadata_difference(metadata, self.settings.strip) or age_difference(job)

    def make(self, job: Job, _: Step) -> tuple[bytes, dict[str, Any]]:
        """Decode one file to a picture file, and return its bytes and figures to report."""
        from mpa_core.io.images import encode_image
        from mpa_core.io.stripping import strip_what
        from mpa_core.mix import MAIN

        file = self._parsed(job)
        codec = self.codecs.for_fingerprint(file.container.fingerprint)
        noted: dict[str, Any] = {}
        with noting(noted):
            image = codec.open(file).render(self.mix, orient=self.settings.orient)
            image = strip_what(image, self.settings.strip)
            picture = encode_image(image, self.settings.suffix)
        return picture, {
            "width": image.width,
            "height": image.height,
            "base": codec.name,
            "mix": {MAIN: self.mix.main, **self.mix.shares},
            "regions": list(self.mix.regions),
            **noted,
        }

    def _parsed(self, job: Job) -> ParsedFile:
        """Parse the file, which may be damaged as far as ``errors`` allows."""
        from mpa_core.bitstream.parsed import parse_file

        data = read_input(job.source)
        return parse_file(data, errors=self.settings.errors, max_pixels=self.settings.max_pixels)


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
